package identity

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"testing"
)

// reseal computes the checksum of a changed file anew.
func reseal(file []byte) []byte {
	body := file[:len(file)-sha256.Size]
	sum := sha256.Sum256(body)
	return append(bytes.Clone(body), sum[:]...)
}

func TestLoadErrors(t *testing.T) {
	good := goldenFile(t, "identity.bin")
	for _, c := range []struct {
		name    string
		content []byte
		want    error
		text    string
	}{
		{"empty", nil, ErrTruncated, "0 bytes"},
		{"part of the magic", good[:5], ErrTruncated, "5 bytes"},
		{"magic only", good[:8], ErrTruncated, "8 bytes"},
		{"part of the header", good[:12], ErrTruncated, "12 bytes"},
		{"half", good[:len(good)/2], ErrTruncated, "of"},
		{"last byte missing", good[:len(good)-1], ErrTruncated, "of"},
		{"one byte more", append(bytes.Clone(good), 0), ErrCorrupt, "1 too many"},
		{"changed byte", flipped(good, 8*2000), ErrCorrupt, "checksum"},
		{"later version", future(good), ErrVersion, "2, this program reads 1"},
		{"a text", []byte("-----BEGIN PRIVATE KEY-----\n"), ErrNotIdentity, "not written by anchor"},
		{"an authority", goldenFile(t, "authority.bin"), ErrNotIdentity, "holds a realm authority"},
		{"a huge file", make([]byte, maxIdentitySize+1), ErrNotIdentity, "more than"},
		{"no CBOR", encodeFile(magicIdentity, []byte("hello")), ErrFormat, "EOF"},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "id.anchor")
			if err := os.WriteFile(path, c.content, 0o600); err != nil {
				t.Fatal(err)
			}
			_, err := Load(path, LoadOptions{})
			wantErr(t, err, c.want, c.text)
			wantErr(t, err, ErrFormat, "identity: load "+path+": ")
			for _, other := range []error{ErrTruncated, ErrCorrupt, ErrVersion, ErrNotIdentity} {
				if errors.Is(err, other) != (c.want == other) {
					t.Errorf("%v: is %q too", err, other)
				}
			}
		})
	}
}

func TestLoadNoFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "none")
	_, err := Load(path, LoadOptions{})
	wantErr(t, err, fs.ErrNotExist, "identity: load "+path+": ")
	_, err = Load(dir, LoadOptions{})
	wantErr(t, err, ErrNotIdentity, "not a regular file")
	_, err = OpenAuthority(dir)
	wantErr(t, err, fs.ErrNotExist, "identity: open authority")
}

func TestCheckMode(t *testing.T) {
	for _, c := range []struct {
		mode          fs.FileMode
		strict, group bool // taken without and with AllowGroupReadable
	}{
		{0o600, true, true}, {0o400, true, true}, {0o700, true, true}, {0o000, true, true},
		{0o640, false, true}, {0o440, false, true},
		{0o660, false, false}, {0o620, false, false}, {0o644, false, false}, {0o604, false, false},
		{0o602, false, false}, {0o601, false, false}, {0o610, false, false}, {0o777, false, false},
	} {
		for _, group := range []bool{false, true} {
			want := c.strict
			if group {
				want = c.group
			}
			err := checkMode("linux", "/x/id", c.mode, group)
			if (err == nil) != want {
				t.Errorf("mode %04o, group %v: %v", c.mode, group, err)
			}
			if err != nil {
				wantErr(t, err, ErrPermissions, "run chmod 600 /x/id")
			}
			for _, goos := range []string{"windows", "js"} {
				if err := checkMode(goos, "id", c.mode, group); err != nil {
					t.Errorf("%s: %v", goos, err)
				}
			}
		}
	}
}

func TestLoadPermissions(t *testing.T) {
	if runtime.GOOS == "windows" || runtime.GOOS == "js" {
		t.Skip("permission bits mean nothing here")
	}
	path := filepath.Join(t.TempDir(), "id.anchor")
	if err := os.WriteFile(path, goldenFile(t, "identity.bin"), 0o600); err != nil {
		t.Fatal(err)
	}
	load := func(mode fs.FileMode, o LoadOptions) error {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		_, err := Load(path, o)
		return err
	}
	if err := load(0o600, LoadOptions{}); err != nil {
		t.Error(err)
	}
	if err := load(0o640, LoadOptions{AllowGroupReadable: true}); err != nil {
		t.Error(err)
	}
	wantErr(t, load(0o640, LoadOptions{}), ErrPermissions, "its mode is 0640; run chmod 600 "+path)
	wantErr(t, load(0o644, LoadOptions{AllowGroupReadable: true}), ErrPermissions, "0644")
}

func TestSaveIsPrivateAndWhole(t *testing.T) {
	id := must(Parse(goldenFile(t, "identity.bin")))(t)
	dir := t.TempDir()
	path := filepath.Join(dir, "id.anchor")
	if err := os.WriteFile(path, []byte("what was there before"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := id.Save(path); err != nil {
		t.Fatal(err)
	}
	if info := must(os.Stat(path))(t); runtime.GOOS != "windows" && info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v", info.Mode())
	}
	if got := must(os.ReadFile(path))(t); !bytes.Equal(got, goldenFile(t, "identity.bin")) {
		t.Error("file differs")
	}
	if names := must(os.ReadDir(dir))(t); len(names) != 1 {
		t.Errorf("Save left %v", names)
	}
	if got := must(Load(path, LoadOptions{}))(t); got.ID() != id.ID() {
		t.Errorf("loaded %v", got)
	}
}

func TestSaveFailureLeavesNothing(t *testing.T) {
	id := must(Parse(goldenFile(t, "identity.bin")))(t)
	dir := t.TempDir()
	path := filepath.Join(dir, "taken")
	if err := os.MkdirAll(filepath.Join(path, "full"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := id.Save(path); err == nil { // a directory cannot be replaced
		t.Fatal("Save replaced a directory")
	}
	if names := must(os.ReadDir(dir))(t); len(names) != 1 {
		t.Errorf("Save left %v", names)
	}
	wantErr(t, id.Save(filepath.Join(dir, "no", "such", "dir")), fs.ErrNotExist, "identity: save")
}

func flipped(b []byte, bit int) []byte {
	c := bytes.Clone(b)
	c[bit/8] ^= 1 << (bit % 8)
	return c
}
