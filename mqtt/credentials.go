package mqtt

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"strings"
)

// TLSConfig says how to trust the broker and how to prove who we are. CA, Cert and Key each hold PEM text, or the path of
// a file that does; files are read again for every connection, so certificates rotate without a restart.
type TLSConfig struct {
	CA         string `yaml:"ca"`         // default: the system's
	Cert       string `yaml:"cert"`       // client certificate; needs Key
	Key        string `yaml:"key"`        // its private key
	ServerName string `yaml:"serverName"` // name in the broker's certificate; default: the URL's host
	// InsecureSkipVerify accepts any certificate: only for a laboratory.
	InsecureSkipVerify bool `yaml:"insecureSkipVerify"`
}

// Credentials say who connects. They are asked for before every connection.
type Credentials struct {
	Username, Password string
	TLS                TLSConfig
}

// CredentialsFunc returns the credentials of the next connection. It must be safe for concurrent use.
type CredentialsFunc func(ctx context.Context) (Credentials, error)

// config builds the TLS configuration for one connection.
func (t TLSConfig) config(host string) (*tls.Config, error) {
	cfg := &tls.Config{
		MinVersion: tls.VersionTLS12, ServerName: t.ServerName,
		InsecureSkipVerify: t.InsecureSkipVerify, //nolint:gosec // the user asked for it by name
	}
	if cfg.ServerName == "" {
		cfg.ServerName = host
	}
	if t.CA != "" {
		pem, err := pemText(t.CA)
		if err != nil {
			return nil, fmt.Errorf("read CA certificate: %w", err)
		}
		cfg.RootCAs = x509.NewCertPool()
		if !cfg.RootCAs.AppendCertsFromPEM(pem) {
			return nil, errors.New("read CA certificate: no PEM certificate in it")
		}
	}
	if t.Cert == "" && t.Key == "" {
		return cfg, nil
	}
	if t.Cert == "" || t.Key == "" {
		return nil, errors.New("read client certificate: certificate and key go together, one is missing")
	}
	cert, err := pemText(t.Cert)
	if err != nil {
		return nil, fmt.Errorf("read client certificate: %w", err)
	}
	key, err := pemText(t.Key)
	if err != nil {
		return nil, fmt.Errorf("read client key: %w", err)
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return nil, fmt.Errorf("read client certificate: %w", err)
	}
	cfg.Certificates = []tls.Certificate{pair}
	return cfg, nil
}

// pemText returns the text itself, or that of the file it names.
func pemText(textOrPath string) ([]byte, error) {
	if strings.Contains(textOrPath, "-----BEGIN ") {
		return []byte(textOrPath), nil
	}
	return os.ReadFile(textOrPath)
}

// fileText reads a small file such as a password, without the newline that editors put at its end.
func fileText(path string) (string, error) {
	b, err := os.ReadFile(path)
	return strings.TrimRight(string(b), "\r\n"), err
}
