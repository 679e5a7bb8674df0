package state

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
)

// The component metadata that switches automatic encryption on (Dapr: encrypt application state). Values are AES keys
// of 128, 192 or 256 bits in hex.
const (
	primaryKeyName   = "primaryEncryptionKey"
	secondaryKeyName = "secondaryEncryptionKey"
)

// encryption seals values with AES-GCM. A sealed value is base64(nonce, ciphertext, tag), the separator, and the name of
// the key, as Dapr writes it. New values use the primary key; the secondary one is only read with, so that keys rotate.
type encryption struct {
	primary, secondary sealKey
}

type sealKey struct {
	name string
	aead cipher.AEAD // nil: not given
}

// newEncryption returns nil if there is no primary key.
func newEncryption(primary, secondary string) (*encryption, error) {
	if primary == "" {
		return nil, nil
	}
	var e encryption
	var err error
	if e.primary, err = newSealKey(primary); err != nil {
		return nil, fmt.Errorf("%s: %w", primaryKeyName, err)
	}
	if secondary == "" {
		return &e, nil
	}
	if e.secondary, err = newSealKey(secondary); err != nil {
		return nil, fmt.Errorf("%s: %w", secondaryKeyName, err)
	}
	return &e, nil
}

func newSealKey(text string) (sealKey, error) {
	key, err := hex.DecodeString(text)
	if err != nil {
		return sealKey{}, errors.New("extract encryption key: it is not hexadecimal")
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return sealKey{}, fmt.Errorf("extract encryption key: %w", err)
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		return sealKey{}, fmt.Errorf("extract encryption key: %w", err)
	}
	// The name only tells the keys apart; a hash of the key stays right when the secret is renamed.
	sum := sha256.Sum256(key)
	return sealKey{name: hex.EncodeToString(sum[:8]), aead: aead}, nil
}

func (e *encryption) encrypt(clear []byte) ([]byte, error) {
	nonce := make([]byte, e.primary.aead.NonceSize(), e.primary.aead.NonceSize()+len(clear)+e.primary.aead.Overhead())
	if _, err := rand.Read(nonce); err != nil {
		return nil, fmt.Errorf("encrypt: %w", err)
	}
	sealed := e.primary.aead.Seal(nonce, nonce, clear, nil)
	out := base64.StdEncoding.AppendEncode(nil, sealed)
	return append(append(out, separator...), e.primary.name...), nil
}

// decrypt opens a sealed value. A value sealed under a key of another name, such as Dapr's name of the same key, is tried
// with both keys: the seal itself tells the right one.
func (e *encryption) decrypt(value []byte) ([]byte, error) {
	if len(value) == 0 {
		return value, nil
	}
	at := bytes.LastIndex(value, []byte(separator))
	if at < 0 {
		return nil, errors.New("decrypt: the value has no encryption key name: it was stored without encryption")
	}
	sealed, err := base64.StdEncoding.AppendDecode(nil, value[:at])
	if err != nil {
		return nil, fmt.Errorf("decrypt: %w", err)
	}
	name := string(value[at+len(separator):])
	var failed error
	for _, k := range []sealKey{e.primary, e.secondary} {
		if k.aead == nil || len(sealed) < k.aead.NonceSize() {
			continue
		}
		clear, err := k.aead.Open(nil, sealed[:k.aead.NonceSize()], sealed[k.aead.NonceSize():], nil)
		if err == nil {
			return clear, nil
		}
		failed = err
	}
	if failed == nil {
		failed = errors.New("the value is too short")
	}
	return nil, fmt.Errorf("decrypt with key %q: %w", name, failed)
}
