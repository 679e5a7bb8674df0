package sync

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"
)

const (
	pingEvery      = 15 * time.Second // a half-open connection is noticed after two of them
	connectTimeout = 10 * time.Second
	secretTimeout  = 5 * time.Second
	writeTimeout   = 15 * time.Second
	stallsAllowed  = 2 // answers that may time out in a row before the connection is made anew
)

// link is the connection to the upstream. It connects, and connects again, by itself. A session is the time between one
// connect and the next disconnect.
type link struct {
	cfg    Config
	prefix string // of inboxes
	log    *slog.Logger
	secret func(ctx context.Context, store, name string) (map[string]string, error)

	mu       sync.Mutex
	nc       *nats.Conn
	session  context.Context // done: no session
	end      context.CancelCauseFunc
	changed  chan struct{} // closed at the next session
	sessions uint64
	since    time.Time
	err      error
	stalls   int
	denied   map[string]time.Time // subjects refused in this session
	deniedAt chan struct{}        // closed at the next refusal
}

func newLink(cfg Config, device string, log *slog.Logger, secret func(context.Context, string, string) (map[string]string, error)) *link {
	l := &link{cfg: cfg, prefix: cfg.InboxPrefix, log: log, secret: secret, changed: make(chan struct{}), deniedAt: make(chan struct{})}
	if l.prefix == "" {
		l.prefix = names{device: device}.inbox()
	}
	l.session, l.end = context.WithCancelCause(context.Background())
	l.end(errOffline)
	return l
}

var errOffline = errors.New("no link to the upstream")

// dialFunc is a nats.CustomDialer.
type dialFunc func(network, address string) (net.Conn, error)

// Dial implements nats.CustomDialer.
func (f dialFunc) Dial(network, address string) (net.Conn, error) { return f(network, address) }

// dialer looks names up and dials until ctx is done, so that closing does not wait for a network that does not answer.
func dialer(ctx context.Context) nats.CustomDialer {
	return dialFunc(func(network, address string) (net.Conn, error) {
		d := net.Dialer{Timeout: connectTimeout}
		return d.DialContext(ctx, network, address)
	})
}

// open starts connecting. It fails while the credentials can not be read.
func (l *link) open(ctx context.Context) error {
	credentials, err := l.credentials(ctx)
	if err != nil {
		return err
	}
	opts := []nats.Option{
		nats.Name("edged"),
		nats.RetryOnFailedConnect(true), nats.MaxReconnects(-1), nats.IgnoreAuthErrorAbort(),
		nats.ReconnectBufSize(-1), // else publishes while offline wait in memory and look done
		nats.CustomReconnectDelay(l.cfg.Backoff.delay),
		nats.PingInterval(pingEvery), nats.MaxPingsOutstanding(2),
		nats.SetCustomDialer(dialer(ctx)), nats.SkipHostLookup(),
		nats.Timeout(connectTimeout), nats.FlusherTimeout(writeTimeout), nats.ReconnectOnFlusherError(),
		nats.CustomInboxPrefix(l.prefix),
		nats.Compression(l.cfg.Compression),
		nats.ConnectHandler(l.connected), nats.ReconnectHandler(l.connected),
		nats.DisconnectErrHandler(l.disconnected), nats.ReconnectErrHandler(l.failed),
		nats.ErrorHandler(l.asyncError),
	}
	opts = append(opts, credentials...)
	opts = append(opts, l.tls()...)
	nc, err := nats.Connect(l.cfg.URL, opts...)
	if err != nil {
		return fmt.Errorf("connect to %s: %w", l.cfg.URL, err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.nc = nc
	return nil
}

// delay is full jitter: random between nothing and a bound that doubles.
func (b Backoff) delay(attempt int) time.Duration {
	bound := b.Max
	if attempt < 30 {
		bound = min(b.Max, b.Min<<max(0, attempt-1))
	}
	if bound <= 0 {
		bound = b.Max
	}
	return rand.N(bound) + time.Millisecond
}

func (l *link) connected(nc *nats.Conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.nc = nc
	l.end(errOffline)
	l.session, l.end = context.WithCancelCause(context.Background())
	l.sessions++
	l.since, l.err, l.stalls, l.denied = time.Now(), nil, 0, nil
	close(l.changed)
	l.changed = make(chan struct{})
	l.log.Info("upstream connected", "url", nc.ConnectedUrlRedacted(), "server", nc.ConnectedServerVersion())
}

func (l *link) disconnected(_ *nats.Conn, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.session.Err() == nil {
		l.log.Info("upstream disconnected", "error", err)
		l.since = time.Now()
	}
	l.end(errOffline)
	if err != nil {
		l.err = err
	}
}

func (l *link) failed(_ *nats.Conn, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err == nil || err != nil && l.err.Error() != err.Error() {
		l.log.Warn("upstream not reachable, trying on", "error", err)
	}
	l.err = err
}

// asyncError notes what the server refused. A refused publish shows nowhere else: its answer just never comes.
func (l *link) asyncError(_ *nats.Conn, _ *nats.Subscription, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.err = err
	if !errors.Is(err, nats.ErrPermissionViolation) {
		l.log.Warn("upstream", "error", err)
		return
	}
	if _, rest, ok := strings.Cut(err.Error(), `to "`); ok {
		subject, _, _ := strings.Cut(rest, `"`)
		if l.denied == nil {
			l.denied = map[string]time.Time{}
		}
		l.denied[subject] = time.Now()
	}
	close(l.deniedAt)
	l.deniedAt = make(chan struct{})
}

// refused returns an error if one of the subjects was refused at or after since, and a channel that closes at the next
// refusal of anything.
func (l *link) refused(since time.Time, subjects func(subject string) bool) (<-chan struct{}, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for s, at := range l.denied {
		if !at.Before(since) && subjects(s) {
			return l.deniedAt, &Error{Trouble: Denied, Err: fmt.Errorf("the credentials do not allow publishing to %s", s)}
		}
	}
	return l.deniedAt, nil
}

// stalled counts an answer that never came although the connection looks alive. Too many in a row: connect again.
func (l *link) stalled() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.session.Err() != nil {
		return
	}
	if l.stalls++; l.stalls < stallsAllowed {
		return
	}
	l.stalls = 0
	l.log.Warn("upstream does not answer, connecting again")
	_ = l.nc.ForceReconnect() // it fails only when the connection is closed for good
}

// nudge tries to connect now, if there is no connection: the network has changed.
func (l *link) nudge() {
	l.mu.Lock()
	nc, offline := l.nc, l.session.Err() != nil
	l.mu.Unlock()
	if nc != nil && offline && nc.IsReconnecting() {
		_ = nc.ForceReconnect() // it fails only when the connection is closed for good
	}
}

func (l *link) answered() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.stalls = 0
}

// wait returns the session, when there is one, as a context that ends with it and with ctx.
func (l *link) wait(ctx context.Context) (context.Context, context.CancelFunc, error) {
	for {
		l.mu.Lock()
		session, changed := l.session, l.changed
		l.mu.Unlock()
		if session.Err() == nil {
			out, cancel := context.WithCancelCause(ctx)
			stop := context.AfterFunc(session, func() { cancel(errOffline) })
			return out, func() { stop(); cancel(nil) }, nil
		}
		select {
		case <-ctx.Done():
			return nil, nil, ctx.Err()
		case <-changed:
		}
	}
}

// conn returns the connection and the number of the session.
func (l *link) conn() (*nats.Conn, uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.nc, l.sessions
}

func (l *link) close() {
	l.mu.Lock()
	nc := l.nc
	l.mu.Unlock()
	if nc != nil {
		nc.Close()
	}
}

// credentials returns the options for the kind that is configured. Secrets and files are read again at every connect.
func (l *link) credentials(ctx context.Context) ([]nats.Option, error) {
	c := l.cfg.Credentials
	switch {
	case c.Secret != "":
		return l.secretOptions(ctx)
	case c.Token != "":
		return []nats.Option{nats.Token(c.Token)}, nil
	case c.User != "":
		return []nats.Option{nats.UserInfo(c.User, c.Password)}, nil
	case c.File != "":
		text, err := os.ReadFile(c.File)
		if err != nil {
			return nil, fmt.Errorf("read credentials: %w", err)
		}
		if strings.Contains(string(text), "BEGIN NATS USER JWT") {
			return []nats.Option{nats.UserCredentials(c.File)}, nil
		}
		opt, err := nats.NkeyOptionFromSeed(c.File)
		if err != nil {
			return nil, fmt.Errorf("read credentials %s: %w", c.File, err)
		}
		return []nats.Option{opt}, nil
	}
	return nil, nil
}

func (l *link) secretOptions(ctx context.Context) ([]nats.Option, error) {
	c := l.cfg.Credentials
	read := func(ctx context.Context) (map[string]string, error) {
		if l.secret == nil {
			return nil, errors.New("there is no secret store")
		}
		ctx, cancel := context.WithTimeout(ctx, secretTimeout)
		defer cancel()
		fields, err := l.secret(ctx, c.Store, c.Secret)
		if err != nil {
			return nil, fmt.Errorf("read secret %s: %w", c.Secret, err)
		}
		return fields, nil
	}
	fields, err := read(ctx)
	if err != nil {
		return nil, err
	}
	now := func() map[string]string { // the newest value that can be read
		if newer, err := read(context.Background()); err == nil {
			fields = newer
		}
		return fields
	}
	switch {
	case fields["creds"] != "":
		return []nats.Option{nats.UserCredentialBytes([]byte(fields["creds"]))}, nil
	case fields["nkey"] != "":
		key, err := nkeys.FromSeed([]byte(strings.TrimSpace(fields["nkey"])))
		if err != nil {
			return nil, fmt.Errorf("read secret %s: nkey: %w", c.Secret, err)
		}
		public, err := key.PublicKey()
		if err != nil {
			return nil, fmt.Errorf("read secret %s: nkey: %w", c.Secret, err)
		}
		return []nats.Option{nats.Nkey(public, key.Sign)}, nil
	case fields["user"] != "":
		return []nats.Option{nats.UserInfoHandler(func() (string, string) { f := now(); return f["user"], f["password"] })}, nil
	}
	name := "token"
	if _, ok := fields[name]; !ok {
		if _, ok := fields[c.Secret]; !ok || len(fields) != 1 {
			return nil, fmt.Errorf("read secret %s: it has none of token, user, nkey, creds", c.Secret)
		}
		name = c.Secret // a store whose secrets have one value, under the secret's own name
	}
	return []nats.Option{nats.TokenHandler(func() string { return now()[name] })}, nil
}

func (l *link) tls() []nats.Option {
	t := l.cfg.TLS
	if t == (TLSConfig{}) {
		return nil
	}
	var cert nats.TLSCertHandler
	if t.Cert != "" {
		cert = func() (tls.Certificate, error) { return tls.LoadX509KeyPair(t.Cert, t.Key) }
	}
	var roots nats.RootCAsHandler
	if t.CA != "" {
		roots = func() (*x509.CertPool, error) {
			pem, err := os.ReadFile(t.CA)
			if err != nil {
				return nil, fmt.Errorf("read tls.ca: %w", err)
			}
			pool := x509.NewCertPool()
			if !pool.AppendCertsFromPEM(pem) {
				return nil, fmt.Errorf("read tls.ca: no certificate in %s", t.CA)
			}
			return pool, nil
		}
	}
	opts := []nats.Option{nats.Secure(&tls.Config{MinVersion: tls.VersionTLS12, ServerName: t.ServerName})}
	if cert != nil || roots != nil {
		opts = append(opts, nats.ClientTLSConfig(cert, roots))
	}
	return opts
}
