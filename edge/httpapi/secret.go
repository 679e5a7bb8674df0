package httpapi

import "net/http"

// secrets answers GET /v1.0/secrets/<store>/<key> and /v1.0/secrets/<store>/bulk.
func (a *api) secrets(c *call) bool {
	var s [2]string
	if n, ok := c.segments(s[:]); !ok || n != 2 || !c.is("v1.0", http.MethodGet) {
		return false
	}
	if s[1] == "bulk" {
		a.bulkSecrets(c, s[0])
		return true
	}
	secret, err := a.Secrets.Get(c.r.Context(), a.AppID, s[0], s[1], metadataOf(c.r))
	switch {
	case err != nil:
		a.fail(c.w, err)
	case secret == nil:
		sendEmpty(c.w)
	default:
		a.sendValue(c.w, http.StatusOK, secret)
	}
	return true
}

func (a *api) bulkSecrets(c *call, store string) {
	secrets, err := a.Secrets.BulkGet(c.r.Context(), a.AppID, store, metadataOf(c.r))
	switch {
	case err != nil:
		a.fail(c.w, err)
	case secrets == nil:
		sendEmpty(c.w)
	default:
		a.sendValue(c.w, http.StatusOK, secrets)
	}
}
