package hub

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"golang.org/x/sys/unix"
)

// Limits above the server's defaults, so that a fleet that fits one hub does not run into them.
const (
	maxOpenBatches   = 4_000 // per stream; one per device that is just committing
	maxConsumers     = 100_000
	readyWithin      = 30 * time.Second
	pruneConnections = time.Minute
)

// Hub is a running hub.
type Hub struct {
	cfg  Config
	log  *slog.Logger
	srv  *server.Server
	keys *keyring
	lock *os.File
	cert atomic.Pointer[tls.Certificate]
	mqtt string
	once sync.Once
}

// Open starts the server, recovers its streams, creates what is missing, and returns when clients can connect. A listener
// that cannot be opened is an error that names it.
func Open(ctx context.Context, cfg Config, log *slog.Logger) (*Hub, error) {
	h := &Hub{cfg: cfg, log: log, keys: &keyring{
		stream: cfg.Events.Stream, bucket: cfg.State.Bucket, internal: rand.Text(), open: cfg.Devices == "", online: map[uint64]identity{},
	}}
	if err := h.open(ctx); err != nil {
		h.Close()
		return nil, err
	}
	return h, nil
}

func (h *Hub) open(ctx context.Context) error {
	if h.keys.open {
		h.log.Warn("open to everybody on this machine: no credentials are configured (devices)")
	} else if err := h.readAccounts(); err != nil {
		return err
	}
	if err := h.lockFolder(); err != nil {
		return err
	}
	opts, err := h.options()
	if err != nil {
		return err
	}
	if h.srv, err = server.NewServer(opts); err != nil {
		return fmt.Errorf("configure server: %w", err)
	}
	h.srv.SetLoggerV2(logger{h.log}, h.cfg.Log.Level == "debug", false, false)
	h.srv.Start()
	if !h.srv.ReadyForConnections(readyWithin) {
		return errors.New("start server: its listeners did not open; the log says which")
	}
	nc, err := h.connect()
	if err != nil {
		return err
	}
	defer nc.Close()
	ctx, cancel := context.WithTimeout(ctx, readyWithin)
	defer cancel()
	if err := Provision(ctx, nc, h.cfg, 1); err != nil {
		return err
	}
	h.log.Info("hub ready", "nats", h.ClientURL(), "websocket", h.WebSocketURL(), "mqtt", h.MQTTAddr(), "data", h.cfg.Data)
	return nil
}

// connect opens a connection inside the process, with all rights.
func (h *Hub) connect() (*nats.Conn, error) {
	nc, err := nats.Connect("", nats.InProcessServer(h.srv), nats.Token(h.keys.internal), nats.Name("edged-hub"))
	if err != nil {
		return nil, fmt.Errorf("connect to the hub's own server: %w", err)
	}
	return nc, nil
}

func (h *Hub) lockFolder() error {
	if err := os.MkdirAll(h.cfg.Data, 0o700); err != nil {
		return fmt.Errorf("make data folder: %w", err)
	}
	f, err := os.OpenFile(filepath.Join(h.cfg.Data, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return fmt.Errorf("lock data folder: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		owner := make([]byte, 16)
		n, _ := f.ReadAt(owner, 0) // only for the message
		return errors.Join(fmt.Errorf("lock data folder %s: in use by another edged-hub (process %s)", h.cfg.Data, owner[:n]), f.Close())
	}
	h.lock = f
	if err := f.Truncate(0); err != nil {
		return fmt.Errorf("lock data folder: %w", err)
	}
	_, err = f.WriteAt([]byte(strconv.Itoa(os.Getpid())), 0)
	return err
}

func (h *Hub) options() (*server.Options, error) {
	c := h.cfg
	opts := &server.Options{
		ServerName: "edged-hub", NoSigs: true, NoLog: false,
		JetStream: true, StoreDir: c.Data, SyncAlways: true,
		JetStreamMaxMemory: -1, JetStreamMaxStore: -1,
		JetStreamLimits: server.JSLimitOpts{
			MaxBatchInflightPerStream: maxOpenBatches, MaxBatchInflightTotal: 2 * maxOpenBatches, DefaultMaxConsumers: maxConsumers,
		},
		MaxPayload:                 int32(c.MaxPayload),
		CustomClientAuthentication: h.keys, AlwaysEnableNonce: true,
		PingInterval: 20 * time.Second, MaxPingsOut: 2,
	}
	if c.TLS.Cert != "" {
		t, err := h.tls()
		if err != nil {
			return nil, err
		}
		opts.TLSConfig, opts.TLSTimeout, opts.TLS, opts.TLSVerify = t, 5, true, c.TLS.ClientCA != ""
	}
	var errs []error
	opts.Host, opts.Port = freeAddress(&errs, "nats", c.Listen.NATS)
	opts.Websocket.Host, opts.Websocket.Port = freeAddress(&errs, "websocket", c.Listen.WebSocket)
	opts.Websocket.TLSConfig, opts.Websocket.NoTLS, opts.Websocket.Compression = opts.TLSConfig, opts.TLSConfig == nil, true
	opts.MQTT.Host, opts.MQTT.Port = freeAddress(&errs, "mqtt", c.Listen.MQTT)
	opts.MQTT.TLSConfig, opts.MQTT.TLSTimeout = opts.TLSConfig, 5
	if opts.MQTT.Port != 0 {
		h.mqtt = net.JoinHostPort(opts.MQTT.Host, strconv.Itoa(opts.MQTT.Port))
	}
	opts.HTTPHost, opts.HTTPPort = freeAddress(&errs, "monitor", c.Listen.Monitor)
	return opts, errors.Join(errs...)
}

// freeAddress makes sure that the address can be listened on, so that the error names the listener, and picks the port
// when it is 0.
func freeAddress(errs *[]error, what, addr string) (string, int) {
	if addr == "" {
		return "", 0
	}
	l, err := net.Listen("tcp", addr)
	if err != nil {
		*errs = append(*errs, fmt.Errorf("listen for %s: %w", what, err))
		return "", 0
	}
	port := l.Addr().(*net.TCPAddr).Port
	host, _, err := net.SplitHostPort(addr)
	if err = errors.Join(err, l.Close()); err != nil {
		*errs = append(*errs, fmt.Errorf("listen for %s: %w", what, err))
	}
	return host, port
}

func (h *Hub) tls() (*tls.Config, error) {
	if err := h.readCertificate(); err != nil {
		return nil, err
	}
	t := &tls.Config{
		MinVersion:     tls.VersionTLS12,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return h.cert.Load(), nil },
	}
	if h.cfg.TLS.ClientCA != "" {
		pem, err := os.ReadFile(h.cfg.TLS.ClientCA)
		if err != nil {
			return nil, fmt.Errorf("read tls.clientCA: %w", err)
		}
		t.ClientCAs, t.ClientAuth = x509.NewCertPool(), tls.RequireAndVerifyClientCert
		if !t.ClientCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("read tls.clientCA: no certificate in %s", h.cfg.TLS.ClientCA)
		}
	}
	return t, nil
}

func (h *Hub) readCertificate() error {
	cert, err := tls.LoadX509KeyPair(h.cfg.TLS.Cert, h.cfg.TLS.Key)
	if err != nil {
		return fmt.Errorf("read tls.cert and tls.key: %w", err)
	}
	h.cert.Store(&cert)
	return nil
}

func (h *Hub) readAccounts() error {
	a, err := ReadAccounts(h.cfg.Devices)
	if err != nil {
		return err
	}
	for _, id := range h.keys.replace(a) {
		h.disconnect(id)
	}
	return nil
}

func (h *Hub) disconnect(id uint64) {
	if err := h.srv.DisconnectClientByID(id); err == nil {
		h.log.Info("disconnected a client whose credentials changed", "client", id)
	}
}

// Reload reads the credentials and the certificate again. Clients whose credentials are gone or changed are disconnected.
// After an error the old ones stay in force.
func (h *Hub) Reload() error {
	var errs []error
	if h.cfg.Devices != "" {
		errs = append(errs, h.readAccounts())
	}
	if h.cfg.TLS.Cert != "" {
		errs = append(errs, h.readCertificate())
	}
	return errors.Join(errs...)
}

// Run keeps the hub's books until ctx is done.
func (h *Hub) Run(ctx context.Context) error {
	tick := time.NewTicker(pruneConnections)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			h.keys.prune(func(id uint64) bool { return h.srv.GetClient(id) != nil })
		}
	}
}

// Close stops the server, waits until its streams are flushed and closed, and releases the folder. It may be called twice.
func (h *Hub) Close() {
	h.once.Do(func() {
		if h.srv != nil {
			h.srv.Shutdown()
			h.srv.WaitForShutdown()
		}
		if h.lock != nil {
			_ = h.lock.Close() // closing only gives up the lock
		}
	})
}

// ClientURL is where NATS clients connect.
func (h *Hub) ClientURL() string { return h.srv.ClientURL() }

// WebSocketURL is where WebSocket clients connect; empty if there is no such listener.
func (h *Hub) WebSocketURL() string {
	if h.cfg.Listen.WebSocket == "" {
		return ""
	}
	return h.srv.WebsocketURL()
}

// MQTTAddr is where MQTT clients connect, as host:port; empty if there is no such listener.
func (h *Hub) MQTTAddr() string { return h.mqtt }
