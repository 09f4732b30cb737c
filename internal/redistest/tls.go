package redistest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"
)

// TLSServer is a [Server] that also listens for TLS on another port.
type TLSServer struct {
	*Server
	// Roots has the only authority, which signs the server's certificate for
	// 127.0.0.1.
	Roots *x509.CertPool
	port  int
}

// StartTLS is [Start] with TLS. The server must be built with TLS.
func StartTLS(t testing.TB, args ...string) *TLSServer {
	t.Helper()
	dir, port := t.TempDir(), freePort(t)
	cert, key := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	roots, err := writeCertificate(cert, key)
	if err != nil {
		t.Fatalf("make certificate: %v", err)
	}
	s := Start(t, append([]string{
		"--tls-port", strconv.Itoa(port), "--tls-auth-clients", "no",
		"--tls-cert-file", cert, "--tls-key-file", key, "--tls-ca-cert-file", cert,
	}, args...)...)
	return &TLSServer{Server: s, Roots: roots, port: port}
}

// TLSAddr returns the host and port for TLS.
func (s *TLSServer) TLSAddr() string { return "127.0.0.1:" + strconv.Itoa(s.port) }

// writeCertificate writes a self-signed certificate and its key.
func writeCertificate(certFile, keyFile string) (*x509.CertPool, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber:          big.NewInt(1),
		Subject:               pkix.Name{CommonName: "redistest"},
		NotBefore:             time.Now().Add(-time.Hour),
		NotAfter:              time.Now().Add(24 * time.Hour),
		IPAddresses:           []net.IP{net.IPv4(127, 0, 0, 1)},
		IsCA:                  true,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return nil, err
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	parsed, err := x509.ParseCertificate(cert)
	if err != nil {
		return nil, err
	}
	for file, block := range map[string]*pem.Block{
		certFile: {Type: "CERTIFICATE", Bytes: cert},
		keyFile:  {Type: "PRIVATE KEY", Bytes: private},
	} {
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			return nil, fmt.Errorf("write %s: %w", block.Type, err)
		}
	}
	roots := x509.NewCertPool()
	roots.AddCert(parsed)
	return roots, nil
}
