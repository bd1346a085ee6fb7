package control

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"sync"
	"time"

	"daosbox/cluster/fault"
	"daosbox/cluster/pki"

	"github.com/fxamacker/cbor/v2"
)

// Bounds of a relayed request.
const (
	maxEnvelope = 1 << 20 // bytes, of which certificates and targets are the most
	maxChain    = 8       // certificates
	nonceSize   = 16
	// maxValidity is how long a request is good for, and so how long its nonce is
	// remembered; clocks may differ by maxSkew.
	maxValidity = 5 * time.Minute
	maxSkew     = time.Minute
	// maxNonces is how many requests are remembered: 50 new ones a second.
	maxNonces = 1 << 14
)

// envelope is what an administrator signs: who asks which servers for what, and
// until when. It travels as the bytes that were signed. A server that does not
// know a field of it refuses it, since the field may restrict the request.
type envelope struct {
	// Chain is the administrator's certificate and those between it and the
	// authority, DER; empty on an insecure system.
	Chain  [][]byte `json:"chain"`
	System string   `json:"sys"`
	Method string   `json:"method"`
	// BodySum is the SHA-256 of the request's body.
	BodySum []byte `json:"body_sum"`
	// Targets are the servers asked, as of targets.encode.
	Targets []byte `json:"targets"`
	// Issued and Expires are milliseconds since 1970.
	Issued  int64  `json:"issued"`
	Expires int64  `json:"expires"`
	Nonce   []byte `json:"nonce"`
}

// sealed is a request as it goes from server to server, never changed.
type sealed struct {
	Envelope  []byte `json:"envelope"`
	Signature []byte `json:"signature"`
	Body      []byte `json:"body"`
}

// signedAs stands before the envelope in what is signed, so that nothing else that
// the key signs can pass for one.
const signedAs = "daosbox relayed request, version 1\x00"

func toSign(envelope []byte) []byte { return append([]byte(signedAs), envelope...) }

// seal makes a request for the servers to; id is nil on an insecure system.
func seal(id *pki.Identity, system, method string, body []byte, to *targets, now time.Time, wait time.Duration) (sealed, error) {
	sum := sha256.Sum256(body)
	e := envelope{System: system, Method: method, BodySum: sum[:], Targets: to.encode(), Issued: now.UnixMilli(),
		Expires: now.Add(min(wait, maxValidity)).UnixMilli(), Nonce: make([]byte, nonceSize)}
	_, _ = rand.Read(e.Nonce) // never fails
	if id != nil {
		cert, err := id.ClientTLS().GetClientCertificate(new(tls.CertificateRequestInfo))
		if err != nil {
			return sealed{}, err
		}
		e.Chain = cert.Certificate
	}
	s := sealed{Body: body}
	var err error
	if s.Envelope, err = encoding.Marshal(e); err != nil {
		return sealed{}, fault.Wrap(fault.Internal, err, "cannot encode a request to be relayed")
	}
	if id != nil {
		s.Signature, err = id.Sign(toSign(s.Envelope))
	}
	return s, err
}

// envelopeMode is bounded, and strict where messages are lenient.
var envelopeMode = func() cbor.DecMode {
	mode, err := cbor.DecOptions{DupMapKey: cbor.DupMapKeyEnforcedAPF, MaxNestedLevels: 4, MaxArrayElements: 16, MaxMapPairs: 16,
		ExtraReturnErrors: cbor.ExtraDecErrorUnknownField, FieldNameMatching: cbor.FieldNameMatchingCaseSensitive}.DecMode()
	if err != nil {
		panic(err) // constant options
	}
	return mode
}()

// decodeEnvelope reads an envelope and its targets. It decides nothing about
// whether to believe them.
func decodeEnvelope(data []byte) (*envelope, *targets, error) {
	if len(data) > maxEnvelope {
		return nil, nil, fault.New(fault.TooLarge, "cannot read a relayed request: its envelope has %d bytes, more than %d", len(data), maxEnvelope)
	}
	e := new(envelope)
	if err := envelopeMode.Unmarshal(data, e); err != nil {
		return nil, nil, fault.Wrap(fault.Usage, err, "cannot read the envelope of a relayed request").
			WithHint("this server may be older than the tool that asks; compare `version` on both, or use --relay=never")
	}
	if len(e.Chain) > maxChain || len(e.BodySum) != sha256.Size || len(e.Nonce) != nonceSize {
		return nil, nil, fault.New(fault.Usage, "cannot read the envelope of a relayed request: a field has a wrong size")
	}
	to, err := decodeTargets(e.Targets)
	if err != nil {
		return nil, nil, err
	}
	return e, to, nil
}

// origin verifies who signed: the chain by verify, the envelope by the leaf's key.
func (s *sealed) origin(e *envelope, verify func([]*x509.Certificate) error) (*x509.Certificate, error) {
	if len(e.Chain) == 0 {
		return nil, fault.New(fault.Permission, "cannot take a relayed request: nobody signed it").
			WithHint("this system uses certificates; the tool that asks was told that it does not (allow_insecure)")
	}
	chain := make([]*x509.Certificate, len(e.Chain))
	for i, der := range e.Chain {
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, fault.Wrap(fault.Certificate, err, "cannot take a relayed request: certificate %d of its signer is damaged", i)
		}
		chain[i] = cert
	}
	if err := verify(chain); err != nil {
		return nil, fault.Wrap(fault.Certificate, err, "cannot take a relayed request")
	}
	if err := pki.Verify(chain[0], toSign(s.Envelope), s.Signature); err != nil {
		return nil, fault.New(fault.Permission, "cannot take a relayed request: its signature does not fit, somebody altered it").
			WithHint("a server on the way is not to be trusted; use --relay=never and look for it")
	}
	return chain[0], nil
}

// checkBody wants the body that was signed.
func (s *sealed) checkBody(e *envelope) error {
	if sum := sha256.Sum256(s.Body); !bytes.Equal(sum[:], e.BodySum) {
		return fault.New(fault.Permission, "cannot take a relayed request: its body is not the one that was signed, somebody altered it").
			WithHint("a server on the way is not to be trusted; use --relay=never and look for it")
	}
	return nil
}

// checkTime wants a request of now, and one that was made after this server began:
// of those before it does not know which it has served.
func (e *envelope) checkTime(now, began time.Time) error {
	issued, expires := time.UnixMilli(e.Issued), time.UnixMilli(e.Expires)
	switch {
	case now.After(expires.Add(maxSkew)):
		return fault.New(fault.Refused, "cannot take a relayed request: it expired at %s, the clock here says %s", stamp(expires), stamp(now)).
			WithHint("compare the clocks of both hosts, they may differ by %s", maxSkew)
	case expires.Sub(issued) > maxValidity, issued.After(now.Add(maxSkew)):
		return fault.New(fault.Refused, "cannot take a relayed request: it is from %s and expires at %s, the clock here says %s", stamp(issued), stamp(expires), stamp(now)).
			WithHint("compare the clocks of both hosts, they may differ by %s", maxSkew)
	case issued.Before(began):
		return fault.New(fault.NotReady, "cannot take a relayed request: it is older than this server's start").
			WithHint("ask again")
	}
	return nil
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// nonces remembers the requests that were served until they can no longer be
// replayed. When it is full new requests are refused: forgetting one would let it
// in again.
type nonces struct {
	most int

	mu    sync.Mutex
	until map[[nonceSize]byte]time.Time
	next  time.Time // when the first one can be forgotten
}

// use takes a nonce, once.
func (n *nonces) use(nonce []byte, until, now time.Time) error {
	key := [nonceSize]byte(nonce)
	n.mu.Lock()
	defer n.mu.Unlock()
	if _, seen := n.until[key]; seen {
		return fault.New(fault.Refused, "cannot take a relayed request: it was served already, somebody sends it again")
	}
	if now.After(n.next) {
		n.forget(now)
	}
	if len(n.until) >= n.most {
		return fault.New(fault.Busy, "cannot take a relayed request: %d were served in the last minutes, no more are remembered", len(n.until)).
			WithHint("wait some minutes, or use --relay=never")
	}
	if n.until == nil {
		n.until = make(map[[nonceSize]byte]time.Time)
	}
	if len(n.until) == 0 || until.Before(n.next) {
		n.next = until
	}
	n.until[key] = until
	return nil
}

// forget drops what cannot be replayed any more; n.mu must be held.
func (n *nonces) forget(now time.Time) {
	n.next = now.Add(maxValidity)
	for key, until := range n.until {
		if now.After(until) {
			delete(n.until, key)
		} else if until.Before(n.next) {
			n.next = until
		}
	}
}
