package sync_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nkeys"

	"github.com/edged-io/edged/edge/pubsub"
	"github.com/edged-io/edged/hub"
	edgesync "github.com/edged-io/edged/sync"
)

// certificates makes a CA, and a server's and a client's certificate, valid for 127.0.0.1.
func certificates(t testing.TB) (dir string) {
	t.Helper()
	dir = t.TempDir()
	make := func(name string, parent *x509.Certificate, signer *ecdsa.PrivateKey) (*x509.Certificate, *ecdsa.PrivateKey) {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		c := &x509.Certificate{
			SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name},
			NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
			IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, BasicConstraintsValid: true,
			KeyUsage:    x509.KeyUsageDigitalSignature,
			ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		}
		if parent == nil {
			parent, signer = c, key
			c.IsCA, c.KeyUsage = true, x509.KeyUsageCertSign
		}
		der, err := x509.CreateCertificate(rand.Reader, c, parent, &key.PublicKey, signer)
		if err != nil {
			t.Fatal(err)
		}
		raw, err := x509.MarshalECPrivateKey(key)
		if err != nil {
			t.Fatal(err)
		}
		for file, block := range map[string]*pem.Block{".pem": {Type: "CERTIFICATE", Bytes: der}, ".key": {Type: "EC PRIVATE KEY", Bytes: raw}} {
			if err := os.WriteFile(filepath.Join(dir, name+file), pem.EncodeToMemory(block), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		return c, key
	}
	ca, caKey := make("ca", nil, nil)
	make("server", ca, caKey)
	make("client", ca, caKey)
	return dir
}

func TestLink_Credentials(t *testing.T) {
	t.Parallel()
	dir := certificates(t)
	seed, err := nkeys.CreateUser()
	if err != nil {
		t.Fatal(err)
	}
	public, err := seed.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	text, err := seed.Seed()
	if err != nil {
		t.Fatal(err)
	}
	seedFile := filepath.Join(dir, "device.nk")
	devices := filepath.Join(dir, "devices.yaml")
	for file, content := range map[string]string{
		seedFile: string(text),
		devices: fmt.Sprintf("devices: [{id: by-token, token: t0ken}, {id: by-user, user: u, password: p}, {id: by-key, nkey: %s}]\nservices: [{id: test, token: admin}]\n",
			public),
	} {
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cfg := hubConfig(t)
	cfg.Devices, cfg.Listen.WebSocket = devices, "127.0.0.1:0"
	cfg.TLS = hub.TLSConfig{Cert: filepath.Join(dir, "server.pem"), Key: filepath.Join(dir, "server.key"), ClientCA: filepath.Join(dir, "ca.pem")}
	h := openHub(t, cfg)
	secrets := map[string]map[string]string{
		"token": {"token": "t0ken"}, "plain": {"plain": "t0ken"}, "user": {"user": "u", "password": "p"}, "nkey": {"nkey": string(text)},
	}
	for name, c := range map[string]struct {
		url, device string
		credentials edgesync.Credentials
	}{
		"token":          {h.ClientURL(), "by-token", edgesync.Credentials{Token: "t0ken"}},
		"user":           {h.WebSocketURL(), "by-user", edgesync.Credentials{User: "u", Password: "p"}},
		"seed in a file": {h.ClientURL(), "by-key", edgesync.Credentials{File: seedFile}},
		"secret token":   {h.WebSocketURL(), "by-token", edgesync.Credentials{Secret: "token"}},
		"secret of one":  {h.ClientURL(), "by-token", edgesync.Credentials{Secret: "plain"}},
		"secret user":    {h.ClientURL(), "by-user", edgesync.Credentials{Secret: "user"}},
		"secret nkey":    {h.WebSocketURL(), "by-key", edgesync.Credentials{Secret: "nkey"}},
	} {
		t.Run(name, func(t *testing.T) {
			disk := newDisk("#")
			cfg := upstream{}.config(c.url)
			cfg.Credentials = c.credentials
			cfg.TLS = edgesync.TLSConfig{CA: filepath.Join(dir, "ca.pem"), Cert: filepath.Join(dir, "client.pem"), Key: filepath.Join(dir, "client.key")}
			disk.store.put("app||"+name, "1")
			var asked atomic.Int32
			s, err := edgesync.New(cfg, edgesync.Deps{
				Device: c.device, Log: testLog(t), Meta: disk.store,
				Journals: func(string) (pubsub.Journal, bool) { return disk.journal, true },
				Stores:   func(string) (edgesync.Store, bool) { return disk.store, true },
				Secret: func(_ context.Context, _, name string) (map[string]string, error) {
					if asked.Add(1) < 3 {
						return nil, errors.New("the secret store is not ready")
					}
					return secrets[name], nil
				},
			})
			if err != nil {
				t.Fatal(err)
			}
			go func() { _ = s.Run(t.Context()) }() // Close waits for it
			d := &device{t: t, id: c.device, disk: disk, sync: s, stop: func() {}}
			t.Cleanup(d.close)
			d.publish("t", 1, 10)
			eventually(t, "events and state are sent", func() bool {
				return d.lane("telemetry").Changes+d.lane("telemetry").Avoided >= 10 || d.lane("telemetry").State == "stopped"
			})
			if st := d.sync.Status(); !st.Link.Connected || strings.Contains(st.Link.URL, "t0ken") {
				t.Errorf("link: %+v", st.Link)
			}
		})
	}
	t.Run("refused", func(t *testing.T) {
		cfg := upstream{}.config(h.ClientURL())
		cfg.Credentials.Token = "wrong"
		cfg.TLS = edgesync.TLSConfig{CA: filepath.Join(dir, "ca.pem"), Cert: filepath.Join(dir, "client.pem"), Key: filepath.Join(dir, "client.key")}
		d := start(t, "by-token", newDisk("#"), cfg)
		eventually(t, "the status says why", func() bool {
			return strings.Contains(strings.ToLower(d.sync.Status().Link.LastError), "authorization")
		})
	})
	t.Run("no client certificate", func(t *testing.T) {
		cfg := upstream{}.config(h.ClientURL())
		cfg.Credentials.Token = "t0ken"
		cfg.TLS = edgesync.TLSConfig{CA: filepath.Join(dir, "ca.pem")}
		d := start(t, "by-token", newDisk("#"), cfg)
		eventually(t, "the status says why", func() bool { return d.sync.Status().Link.LastError != "" })
		if d.sync.Status().Link.Connected {
			t.Error("connected")
		}
	})
}

// No upstream, no name service, clock at 1970: it starts at once, waits, stops at once, and when the upstream comes it
// sends everything.
func TestLink_UpstreamComesLater(t *testing.T) {
	t.Parallel()
	cfg := hubConfig(t)
	u := upstream{}
	disk := newDisk("#")
	nobody := u.config("nats://no-such-host.invalid:4222")
	began := time.Now()
	d := start(t, "gw", disk, nobody)
	d.publish("t", 1, 100)
	eventually(t, "the status says what is wrong", func() bool { return d.sync.Status().Link.LastError != "" })
	d.close()
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("starting and stopping took %s", took)
	}
	d = start(t, "gw", disk, u.config("nats://"+cfg.Listen.NATS))
	eventually(t, "the status says what is wrong", func() bool { return d.sync.Status().Link.LastError != "" })
	h := openHub(t, cfg)
	came := time.Now()
	u = newUpstream(t, h.ClientURL(), 1)
	u.arrived(t, d, "t", 100)
	t.Logf("everything was upstream %s after it came", time.Since(came).Round(time.Millisecond))
}

// An alarm behind a large backlog on a slow link waits for one batch, not for the backlog.
func TestLink_AlarmOvertakesBacklog(t *testing.T) {
	t.Parallel()
	h := openHub(t, hubConfig(t))
	u := newUpstream(t, h.ClientURL(), 1)
	p := newProxy(t, h.ClientURL())
	const rate = 64_000 / 8
	p.shape(rate, 0)
	cfg := u.config(p.url())
	cfg.Timeout = 10 * time.Second
	d := start(t, u.deviceID(), newDisk("alarms/#", "#"), cfg)
	d.publish("sensors/a", 1, 100_000)
	eventually(t, "the backlog is on its way", func() bool { return d.lane("telemetry").Batches >= 3 })
	began := time.Now()
	d.publish("alarms/fire", 1, 1)
	eventually(t, "the alarm is upstream", func() bool { return d.lane("alarm.pubsub.alarms=2F=23").Changes == 1 })
	took := time.Since(began)
	t.Logf("the alarm took %s at 64 kbit/s, backlog %d", took.Round(time.Millisecond), d.lane("telemetry.pubsub.=23").Backlog)
	if took > 4*time.Second {
		t.Errorf("the alarm took %s", took)
	}
}
