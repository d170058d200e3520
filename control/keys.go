package control

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base32"
	"encoding/binary"
	"fmt"
	"net/netip"

	"github.com/veil-net/anchor/identity"
	"github.com/veil-net/anchor/internal/wire"
)

// digestLength is how many base32 characters of a digest stand in subjects and keys: 130 bits.
const digestLength = 26

// The kinds of things that index keys of the directory are made of.
const (
	kindID          = 1
	kindTag         = 2
	kindName        = 3
	kindAddr        = 4
	kindRevocations = 5
)

// realmKeys is what one generation of the realm secret gives. It is immutable.
type realmKeys struct {
	generation uint32
	secret     [32]byte
	digestKey  []byte
	realm      string // digest of the realm id
}

// keyring holds the generations in use. It is immutable.
type keyring struct {
	current  *realmKeys
	previous *realmKeys // nil if there is none
}

func newRealmKeys(realm identity.RealmID, generation uint32, secret [32]byte) (*realmKeys, error) {
	key, err := hkdf.Key(sha256.New, secret[:], nil, "anchor/1 subject", sha256.Size)
	if err != nil {
		return nil, fmt.Errorf("control: subject key: %w", err)
	}
	k := &realmKeys{generation: generation, secret: secret, digestKey: key}
	k.realm = k.digest(realm[:])
	return k, nil
}

// all returns the generations, the current one first.
func (r *keyring) all() []*realmKeys {
	if r.previous == nil {
		return []*realmKeys{r.current}
	}
	return []*realmKeys{r.current, r.previous}
}

// generation returns the keys of a generation, nil if the ring does not hold it.
func (r *keyring) generation(g uint32) *realmKeys {
	for _, k := range r.all() {
		if k.generation == g {
			return k
		}
	}
	return nil
}

// digest names something to the Master without telling it what.
func (k *realmKeys) digest(parts ...[]byte) string {
	h := hmac.New(sha256.New, k.digestKey)
	for _, p := range parts {
		h.Write(p)
	}
	return base32.StdEncoding.EncodeToString(h.Sum(nil))[:digestLength]
}

// toSubject is where messages to one anchor go.
func (k *realmKeys) toSubject(id identity.ID) string {
	return "anchor.v1." + k.realm + ".to." + k.digest(id[:])
}

// hintSubject is where an anchor's messages to all go.
func (k *realmKeys) hintSubject(id identity.ID) string {
	return "anchor.v1." + k.realm + ".hint." + k.digest(id[:])
}

// hintSubjects are all anchors' hint subjects.
func (k *realmKeys) hintSubjects() string { return "anchor.v1." + k.realm + ".hint.*" }

// prefix is what the index keys for one value begin with.
func (k *realmKeys) prefix(kind byte, value []byte) string { return k.digest([]byte{kind}, value) }

// recordKey is where the directory holds an anchor's record.
func (k *realmKeys) recordKey(id identity.ID) string {
	return k.prefix(kindID, id[:]) + "." + k.digest(id[:])
}

// presenceKey is where an anchor says that it is there.
func (k *realmKeys) presenceKey(id identity.ID) string { return k.digest(id[:]) }

// revocationsKey is where the directory holds the realm's revocation list.
func (k *realmKeys) revocationsKey(realm identity.RealmID) string {
	return k.prefix(kindRevocations, realm[:])
}

// indexKeys are the keys that lead to a record by tag, name and address.
func (k *realmKeys) indexKeys(r *identity.Record) []string {
	id := r.ID()
	suffix := "." + k.digest(id[:])
	keys := []string{
		k.prefix(kindTag, r.Current.Tag[:]) + suffix,
		k.prefix(kindTag, r.Previous.Tag[:]) + suffix,
		k.prefix(kindName, []byte(r.Certificate.Name)) + suffix,
	}
	for _, a := range r.Certificate.Addrs() {
		keys = append(keys, k.prefix(kindAddr, addrBytes(a))+suffix)
	}
	return keys
}

func addrBytes(a netip.Addr) []byte { return a.Unmap().AsSlice() }

// aead returns the cipher of one session's messages under this generation.
func (k *realmKeys) aead(session identity.Nonce) (cipher.AEAD, error) {
	key, err := hkdf.Key(sha256.New, k.secret[:], session[:], "anchor/1 control", 32)
	if err != nil {
		return nil, fmt.Errorf("control: key: %w", err)
	}
	return newAEAD(key)
}

// pairAEAD returns the cipher of bodies from one session to another, whose shared secret the
// ciphertext in d conveys.
func pairAEAD(shared []byte, sender identity.Nonce, d *wire.ControlDirect) (cipher.AEAD, error) {
	h := sha256.Sum256(d.Ciphertext)
	info := make([]byte, 0, 256)
	info = append(info, "anchor/1 control pair"...)
	info = append(info, d.Sender[:]...)
	info = append(info, d.Receiver[:]...)
	info = append(info, sender[:]...)
	info = append(info, d.ReceiverSession[:]...)
	info = append(info, h[:]...)
	key, err := hkdf.Key(sha256.New, shared, nil, string(info), 32)
	if err != nil {
		return nil, fmt.Errorf("control: key: %w", err)
	}
	return newAEAD(key)
}

func newAEAD(key []byte) (cipher.AEAD, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("control: cipher: %w", err)
	}
	return cipher.NewGCM(block)
}

// counterNonce is the nonce of message number counter of a session.
func counterNonce(counter uint64) []byte {
	return binary.BigEndian.AppendUint64(make([]byte, 4, 12), counter)
}

// signedText is what a sender signs: a hash over the realm, the clear header and the plaintext
// before the signature, which names topic, sender, receiver and the receiver's session.
func signedText(realm identity.RealmID, header, unsigned []byte) []byte {
	h := sha256.New()
	h.Write([]byte("anchor/1 control"))
	h.Write(realm[:])
	h.Write(header)
	h.Write(unsigned)
	return h.Sum(nil)
}
