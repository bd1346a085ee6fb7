package pki

import (
	"crypto/sha256"
	"crypto/x509"
	"sync"
	"time"
)

// maxVerdicts bounds what a listener remembers of its peers; a full store starts
// anew, so that a crowd of strangers costs time and not memory.
const maxVerdicts = 4096

// verdicts remembers which chains an authority was found behind, since checking a
// signature costs as much as the rest of a handshake. They belong to one material:
// a Reload begins with none. Only good ones are kept, and only what cannot change;
// whether a certificate is valid now is asked every time.
type verdicts struct {
	mu   sync.Mutex
	good map[verdictKey]verdict
}

// verdictKey is a use and the SHA-256 of a chain.
type verdictKey struct {
	use   x509.ExtKeyUsage
	chain [sha256.Size]byte
}

// verdict is when the whole chain up to the authority is valid. It keeps the leaf,
// which saves crypto/tls parsing the same certificate again.
type verdict struct {
	from, to time.Time
	leaf     *x509.Certificate
}

func keyOf(chain []*x509.Certificate, use x509.ExtKeyUsage) verdictKey {
	if len(chain) == 1 {
		return verdictKey{use, sha256.Sum256(chain[0].Raw)}
	}
	h := sha256.New()
	for _, cert := range chain { // each begins with its own length
		h.Write(cert.Raw)
	}
	return verdictKey{use, [sha256.Size]byte(h.Sum(nil))}
}

// holds reports whether the chain was verified before and is valid now.
func (v *verdicts) holds(key verdictKey, now time.Time) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	known, ok := v.good[key]
	return ok && !now.Before(known.from) && !now.After(known.to)
}

// keep remembers what x509 found, with the longest validity of the ways up.
func (v *verdicts) keep(key verdictKey, found [][]*x509.Certificate) {
	var best verdict
	for _, way := range found {
		one := verdict{way[0].NotBefore, way[0].NotAfter, way[0]}
		for _, cert := range way[1:] {
			if cert.NotBefore.After(one.from) {
				one.from = cert.NotBefore
			}
			if cert.NotAfter.Before(one.to) {
				one.to = cert.NotAfter
			}
		}
		if best.leaf == nil || one.to.After(best.to) {
			best = one
		}
	}
	if best.leaf == nil {
		return
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.good == nil || len(v.good) >= maxVerdicts {
		v.good = make(map[verdictKey]verdict)
	}
	v.good[key] = best
}
