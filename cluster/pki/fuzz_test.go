package pki

import (
	"testing"
	"time"
)

func FuzzParse(f *testing.F) {
	ca, err := makeCA("DAOS CA", time.Unix(0, 0), time.Unix(1<<31, 0))
	if err != nil {
		f.Fatal(err)
	}
	key, err := keyPEM(ca.key)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(certPEM(ca.cert))
	f.Add(key)
	f.Add([]byte("-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		if certs, err := parseCerts(data); err == nil && len(certs) == 0 {
			t.Fatal("no certificate and no error")
		}
		if key, err := parseKey(data); err == nil && key == nil {
			t.Fatal("no key and no error")
		}
	})
}
