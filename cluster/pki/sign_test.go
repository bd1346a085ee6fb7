package pki_test

import (
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"daosbox/cluster/fault"
	"daosbox/cluster/pki"

	"github.com/matryer/is"
	"google.golang.org/protobuf/encoding/protowire"
)

func TestSignAndVerify(t *testing.T) {
	for name, dir := range map[string]string{
		"P-256":    newCA(t, pki.InitOptions{}),
		"RSA 3072": filepath.Join(oldScript(t), "daosCA", "certs"),
	} {
		t.Run(name, func(t *testing.T) {
			is := is.New(t)
			id := load(t, dir, pki.Agent)
			sig, err := id.Sign([]byte("token"))
			is.NoErr(err)
			is.NoErr(pki.Verify(id.Certificate(), []byte("token"), sig))
			err = pki.Verify(id.Certificate(), []byte("Token"), sig)
			is.Equal(fault.Of(err), fault.Permission)
			sig[len(sig)/2] ^= 1
			is.Equal(fault.Of(pki.Verify(id.Certificate(), []byte("token"), sig)), fault.Permission)
			is.Equal(fault.Of(pki.Verify(id.Certificate(), []byte("token"), nil)), fault.Permission)
		})
	}
}

// The signatures that a 2.8 agent made must verify.
func TestVerifyCapturedCredentials(t *testing.T) {
	is := is.New(t)
	dir := filepath.Join("..", "..", "testdata", "drpc")
	data, err := os.ReadFile(filepath.Join(dir, "agent.crt"))
	is.NoErr(err)
	block, _ := pem.Decode(data)
	cert, err := x509.ParseCertificate(block.Bytes)
	is.NoErr(err)
	checked := 0
	for _, pattern := range []string{"*-101-*certificates*.hex", "*-401-*certificates*.hex"} {
		names, err := filepath.Glob(filepath.Join(dir, pattern))
		is.NoErr(err)
		for _, name := range names {
			token, sig := credential(t, name)
			is.NoErr(pki.Verify(cert, token, sig))
			checked++
		}
	}
	t.Logf("%d credentials", checked)
	is.True(checked >= 8)
}

// credential returns the token, as sent, and the verifier's data of a capture: in
// the reply of method 101, in the request of 401. Either way field 2 of the first
// message that has it, or field 1, is the credential.
func credential(t *testing.T, name string) (token, sig []byte) {
	t.Helper()
	is := is.New(t)
	data, err := os.ReadFile(name)
	is.NoErr(err)
	prefix, envelopeField, credField := "> ", protowire.Number(4), protowire.Number(1)
	if strings.Contains(name, "-101-") {
		prefix, envelopeField, credField = "< ", 3, 2
	}
	for line := range strings.Lines(string(data)) {
		text, ok := strings.CutPrefix(strings.TrimSpace(line), prefix)
		if !ok {
			continue
		}
		datagram, err := hex.DecodeString(text)
		is.NoErr(err)
		const header = 24
		cred := field(t, field(t, datagram[header:], envelopeField), credField)
		return field(t, cred, 1), field(t, field(t, cred, 2), 2)
	}
	t.Fatalf("%s has no line %q", name, prefix)
	return nil, nil
}

// field returns the bytes of a field of a marshalled message.
func field(t *testing.T, message []byte, want protowire.Number) []byte {
	t.Helper()
	for len(message) > 0 {
		number, kind, n := protowire.ConsumeTag(message)
		if n < 0 {
			t.Fatal(protowire.ParseError(n))
		}
		size := protowire.ConsumeFieldValue(number, kind, message[n:])
		if size < 0 {
			t.Fatal(protowire.ParseError(size))
		}
		if number == want && kind == protowire.BytesType {
			value, _ := protowire.ConsumeBytes(message[n:])
			return value
		}
		message = message[n+size:]
	}
	t.Fatalf("field %d is absent", want)
	return nil
}
