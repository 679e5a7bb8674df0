package edge

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	stdsync "sync"
	"time"

	"github.com/edged-io/edged/edge/admin"
)

// AdminSocket is where the daemon with this configuration answers the CLI. Only its own user and root may connect.
func AdminSocket(cfg Config) string { return filepath.Join(cfg.Run, "admin.sock") }

// FetchStatus asks the daemon with this configuration for its status document.
func FetchStatus(ctx context.Context, cfg Config) ([]byte, error) {
	return admin.NewClient(AdminSocket(cfg)).Status(ctx)
}

// What AttachTo asks for and gives.
type (
	// Attachment says which application is to be served, and how.
	Attachment = admin.Attachment
	// Attached says where the application finds its API.
	Attached = admin.Attached
	// Lease is an application that is served for as long as the lease is held.
	Lease = admin.Lease
)

// AttachTo asks the daemon with this configuration to serve an application until the lease is closed or this process ends.
func AttachTo(ctx context.Context, cfg Config, a Attachment) (*Lease, error) {
	return admin.NewClient(AdminSocket(cfg)).Attach(ctx, a)
}

// adminServer answers on the admin socket and, if configured, serves the metrics over TCP.
type adminServer struct {
	log       *slog.Logger
	servers   []*http.Server
	listeners []net.Listener
	wg        stdsync.WaitGroup
	ended     chan struct{} // closed when edged stops: attachments end
}

func (rt *Runtime) openAdmin(context.Context) error {
	if rt.cfg.dropIn != nil {
		return nil
	}
	own := access{uid: -1, gid: -1, mode: ownMode}
	l, err := listenUnix(AdminSocket(rt.cfg), own)
	if err != nil {
		return err
	}
	rt.admin = &adminServer{log: rt.log, ended: make(chan struct{})}
	rt.admin.add(&guarded{Listener: l, admit: own.admit, log: rt.log}, admin.Handler(rt, rt.admin.ended, rt.log))
	if rt.cfg.Metrics.Listen == "" {
		return nil
	}
	m, err := listenTCP(rt.cfg.Metrics.Listen)
	if err != nil {
		return fmt.Errorf("metrics: %w", err)
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", admin.Metrics(rt))
	rt.admin.add(m, mux)
	return nil
}

func (s *adminServer) add(l net.Listener, h http.Handler) {
	s.listeners = append(s.listeners, l)
	s.servers = append(s.servers, &http.Server{Handler: h, ReadHeaderTimeout: headerTimeout})
}

func (s *adminServer) serve() {
	for i, server := range s.servers {
		s.wg.Go(func() {
			if err := server.Serve(s.listeners[i]); err != nil && !errors.Is(err, http.ErrServerClosed) {
				s.log.Error("admin listener ended", "error", err)
			}
		})
	}
}

// close ends attachments at once and waits a moment for other calls.
func (s *adminServer) close() error {
	var errs []error
	close(s.ended)
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	for i, server := range s.servers {
		if err := server.Shutdown(ctx); err != nil {
			errs = append(errs, server.Close())
		}
		if err := s.listeners[i].Close(); !errors.Is(err, net.ErrClosed) {
			errs = append(errs, err)
		}
	}
	s.wg.Wait()
	return errors.Join(errs...)
}
