package httpapi

import (
	"log/slog"
	"net/http"
	"time"
)

// ServerOptions configure a server for the API.
type ServerOptions struct {
	MaxHeaderBytes int          // largest request header; 0: net/http's default of 1 MiB
	Log            *slog.Logger // what goes wrong on connections; nil: nothing is said
}

// NewServer returns a server for h that speaks HTTP/1.1 and HTTP/2 without TLS, the latter by prior knowledge or by an
// upgrade from HTTP/1.1 (RFC 7540, section 3.2), as daprd's HTTP port does. Use Serve, and Shutdown to end it.
func NewServer(h http.Handler, o ServerOptions) *http.Server {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true)
	up := newUpgrader(h, o)
	s := &http.Server{
		Handler: up, Protocols: protocols, ReadHeaderTimeout: 10 * time.Second, MaxHeaderBytes: o.MaxHeaderBytes,
		ErrorLog: errorLog(o.Log),
	}
	s.RegisterOnShutdown(up.shutdown)
	return s
}
