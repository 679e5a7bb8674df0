package hub

import (
	"encoding/base64"

	"github.com/nats-io/nkeys"
)

// signed reports whether sig is the key's signature of nonce, as a NATS CONNECT carries it.
func signed(publicKey string, nonce []byte, sig string) bool {
	if len(nonce) == 0 || sig == "" {
		return false
	}
	raw, err := base64.RawURLEncoding.DecodeString(sig)
	if err != nil {
		if raw, err = base64.StdEncoding.DecodeString(sig); err != nil {
			return false
		}
	}
	key, err := nkeys.FromPublicKey(publicKey)
	return err == nil && key.Verify(nonce, raw) == nil
}
