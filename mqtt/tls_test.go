package mqtt_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/edged-io/edged/mqtt"
)

// authority signs certificates for a test.
type authority struct {
	t    testing.TB
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pem  string
}

func newAuthority(t testing.TB) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test authority"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &authority{t: t, cert: cert, key: key, pem: pemBlock("CERTIFICATE", der)}
}

func pemBlock(kind string, der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
}

func (a *authority) issue(name string) (cert, key string) {
	a.t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		DNSNames:    []string{name}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, a.cert, &k.PublicKey, a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	kder, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		a.t.Fatal(err)
	}
	return pemBlock("CERTIFICATE", der), pemBlock("PRIVATE KEY", kder)
}

func writeFile(t testing.TB, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// startTLS starts a broker that wants client certificates of the authority.
func startTLS(t testing.TB, ca *authority) *mosquitto {
	t.Helper()
	cert, key := ca.issue("localhost")
	return startMosquitto(t, "cafile "+writeFile(t, "ca.pem", ca.pem), "certfile "+writeFile(t, "cert.pem", cert),
		"keyfile "+writeFile(t, "key.pem", key), "require_certificate true", "use_identity_as_username true")
}

func TestBridge_TLS(t *testing.T) {
	ca := newAuthority(t)
	m := startTLS(t, ca)
	cert, key := ca.issue("gw17")
	url := "mqtts://" + m.addr()
	base := func() mqtt.BridgeConfig {
		cfg := bridgeConfig("plant", url)
		cfg.Out = []mqtt.OutRule{rawOut("sensors/#", "", "up/")}
		cfg.In = []mqtt.InRule{inRule("down/#", "down/", "")}
		cfg.TLS = mqtt.TLSConfig{CA: ca.pem, Cert: cert, Key: key}
		return cfg
	}
	t.Run("OK", func(t *testing.T) {
		b, _ := runBridge(t, base(), newLocal(t))
		connected(t, b)
	})
	t.Run("OKFromFiles", func(t *testing.T) {
		cfg := base()
		cfg.TLS = mqtt.TLSConfig{CA: writeFile(t, "ca.pem", ca.pem), Cert: writeFile(t, "c.pem", cert), Key: writeFile(t, "k.pem", key), ServerName: "localhost"}
		b, _ := runBridge(t, cfg, newLocal(t))
		connected(t, b)
	})
	t.Run("OKFromSecret", func(t *testing.T) {
		cfg := base()
		cfg.TLS, cfg.Credentials.Secret = mqtt.TLSConfig{}, "plant"
		b, _ := runBridge(t, cfg, newLocal(t), func(o *mqtt.BridgeOptions) {
			o.Secret = func(_ context.Context, _ string) (map[string]string, error) {
				return map[string]string{"caCert": ca.pem, "clientCert": cert, "clientKey": key}, nil
			}
		})
		connected(t, b)
	})
	refused := func(name string, change func(*mqtt.BridgeConfig), want string) {
		t.Run(name, func(t *testing.T) {
			cfg := base()
			change(&cfg)
			b, _ := runBridge(t, cfg, newLocal(t))
			eventually(t, 10*time.Second, "a refusal", func() bool { return b.Status().Link.LastError != "" })
			if s := b.Status().Link; s.Connected || !strings.Contains(s.LastError, want) {
				t.Errorf("connected %v, error %q, want one with %q", s.Connected, s.LastError, want)
			}
		})
	}
	refused("ErrNoClientCertificate", func(c *mqtt.BridgeConfig) { c.TLS.Cert, c.TLS.Key = "", "" }, "handshake")
	refused("ErrForeignClientCertificate", func(c *mqtt.BridgeConfig) { c.TLS.Cert, c.TLS.Key = newAuthority(t).issue("gw17") }, "handshake")
	refused("ErrUnknownAuthority", func(c *mqtt.BridgeConfig) { c.TLS.CA = newAuthority(t).pem }, "certificate")
	refused("ErrServerName", func(c *mqtt.BridgeConfig) { c.TLS.ServerName = "other" }, "other")
	refused("ErrMissingFile", func(c *mqtt.BridgeConfig) { c.TLS.CA = "/nowhere/ca.pem" }, "/nowhere/ca.pem")
	refused("ErrPlainText", func(c *mqtt.BridgeConfig) { c.Broker = m.url() }, "handshake")
}

// TestBridge_TLS_Rotation replaces the client certificate's files while the bridge runs.
func TestBridge_TLS_Rotation(t *testing.T) {
	ca := newAuthority(t)
	m := startTLS(t, ca)
	cert, key := newAuthority(t).issue("gw17") // not trusted
	certFile, keyFile := writeFile(t, "c.pem", cert), writeFile(t, "k.pem", key)
	cfg := bridgeConfig("plant", "mqtts://"+m.addr())
	cfg.Out = []mqtt.OutRule{rawOut("sensors/#", "", "up/")}
	cfg.TLS = mqtt.TLSConfig{CA: ca.pem, Cert: certFile, Key: keyFile}
	b, _ := runBridge(t, cfg, newLocal(t))
	eventually(t, 10*time.Second, "a refusal", func() bool { return b.Status().Link.LastError != "" })
	cert, key = ca.issue("gw17")
	for file, text := range map[string]string{certFile: cert, keyFile: key} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	connected(t, b)
}

func TestBridge_Password(t *testing.T) {
	m := startMosquitto(t, "allow_anonymous false", "password_file "+passwordFile(t, "gw17", "right"))
	file := writeFile(t, "password", "wrong\n")
	cfg := bridgeConfig("plant", m.url())
	cfg.Out = []mqtt.OutRule{rawOut("sensors/#", "", "up/")}
	cfg.Credentials = mqtt.BridgeCredentials{Username: "gw17", PasswordFile: file}
	b, _ := runBridge(t, cfg, newLocal(t))
	eventually(t, 10*time.Second, "a refusal", func() bool { return b.Status().Link.LastError != "" })
	if s := b.Status().Link; !strings.Contains(s.LastError, "refused by the broker") {
		t.Errorf("error %q", s.LastError)
	}
	if err := os.WriteFile(file, []byte("right\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	connected(t, b)

	cfg = bridgeConfig("url", "mqtt://gw17:right@"+m.addr())
	cfg.Out = []mqtt.OutRule{rawOut("sensors/#", "", "up/")}
	b, _ = runBridge(t, cfg, newLocal(t))
	connected(t, b)
	if s := b.Status().Link; strings.Contains(s.Broker, "right") {
		t.Errorf("the status shows a password: %s", s.Broker)
	}
}
