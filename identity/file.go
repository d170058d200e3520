package identity

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"syscall"
)

// A file of secrets is
//
//	0 magic (8) | 8 version | 9 length of payload u32 | 13 payload | SHA-256 of all before (32)
//
// The checksum finds accidents. It keeps nobody out: that is the file's permissions' work.
const (
	magicIdentity  = "ANCHORID"
	magicAuthority = "ANCHORCA"

	fileVersion    = 1
	fileHeaderSize = 8 + 1 + 4
)

// encodeFile wraps a payload.
func encodeFile(magic string, payload []byte) []byte {
	b := make([]byte, 0, fileHeaderSize+len(payload)+sha256.Size)
	b = append(b, magic...)
	b = append(b, fileVersion)
	b = binary.BigEndian.AppendUint32(b, uint32(len(payload)))
	b = append(b, payload...)
	sum := sha256.Sum256(b)
	return append(b, sum[:]...)
}

// decodeFile checks a file's magic, version, length and checksum and returns the payload, a
// window of b.
func decodeFile(magic string, b []byte) ([]byte, error) {
	if n := min(len(b), len(magic)); string(b[:n]) != magic[:n] {
		switch {
		case bytes.HasPrefix(b, []byte(magicAuthority)):
			return nil, fmt.Errorf("%w: it holds a realm authority, not an identity", ErrNotIdentity)
		case bytes.HasPrefix(b, []byte(magicIdentity)):
			return nil, fmt.Errorf("%w: it holds an identity, not a realm authority", ErrNotIdentity)
		}
		return nil, fmt.Errorf("%w: it was not written by anchor", ErrNotIdentity)
	}
	if len(b) > len(magic) && b[len(magic)] != fileVersion {
		return nil, fmt.Errorf("%w: %d, this program reads %d", ErrVersion, b[len(magic)], fileVersion)
	}
	if len(b) < fileHeaderSize {
		return nil, fmt.Errorf("%w: it has %d bytes", ErrTruncated, len(b))
	}
	length := uint64(binary.BigEndian.Uint32(b[len(magic)+1:]))
	switch want := fileHeaderSize + length + sha256.Size; {
	case uint64(len(b)) < want:
		return nil, fmt.Errorf("%w: it has %d of %d bytes", ErrTruncated, len(b), want)
	case uint64(len(b)) > want:
		return nil, fmt.Errorf("%w: it has %d bytes, %d too many", ErrCorrupt, len(b), uint64(len(b))-want)
	}
	end := fileHeaderSize + int(length)
	if sum := sha256.Sum256(b[:end]); !bytes.Equal(sum[:], b[end:]) {
		return nil, fmt.Errorf("%w: checksum does not match", ErrCorrupt)
	}
	return b[fileHeaderSize:end], nil
}

// readSecret reads a regular file of at most limit bytes that nobody but its owner can read or
// change, or, if group is set, that its group can read too.
func readSecret(path string, limit int64, group bool) ([]byte, error) {
	// Before opening, since opening a pipe would wait for a writer.
	if info, err := os.Stat(path); err != nil {
		return nil, err
	} else if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%w: it is not a regular file", ErrNotIdentity)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if err := checkMode(runtime.GOOS, path, info.Mode(), group); err != nil {
		return nil, err
	}
	b, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(b)) > limit {
		return nil, fmt.Errorf("%w: it has more than %d bytes", ErrNotIdentity, limit)
	}
	return b, nil
}

// checkMode checks permission bits, where they mean something.
func checkMode(goos, path string, mode fs.FileMode, group bool) error {
	if goos == "windows" || goos == "js" {
		return nil
	}
	allowed := fs.FileMode(0o700)
	if group {
		allowed |= 0o040
	}
	if mode.Perm()&^allowed == 0 {
		return nil
	}
	return fmt.Errorf("%w: its mode is %04o; run chmod 600 %s", ErrPermissions, mode.Perm(), path)
}

// writeSecret writes a file with mode 0600 so that at every instant, crashes included, path
// holds either what it held or all of b.
func writeSecret(path string, b []byte) (err error) {
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, "."+filepath.Base(path)+".*") // with mode 0600
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			f.Close()
			os.Remove(f.Name())
		}
	}()
	if _, err := f.Write(b); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	return syncDir(dir)
}

// syncDir makes a rename in dir last, where the system can.
func syncDir(dir string) error {
	if runtime.GOOS == "windows" || runtime.GOOS == "js" {
		return nil
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	if err := d.Sync(); err != nil && !errors.Is(err, errors.ErrUnsupported) && !errors.Is(err, syscall.EINVAL) {
		return err
	}
	return nil
}

// reason takes the operation and the path off an error of package os, which the caller's own
// words have.
func reason(err error) error {
	if p, ok := errors.AsType[*fs.PathError](err); ok {
		return p.Err
	}
	return err
}
