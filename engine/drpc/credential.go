package drpc

import (
	"crypto/sha512"
	"crypto/subtle"
	"fmt"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protowire"

	"daosbox/engine/drpc/pb"
)

// CredentialOrigin is the origin of every credential. A server verifies it with
// the certificate of this name.
const CredentialOrigin = "agent"

// Principal returns the form of a user or group name in credentials and ACLs.
func Principal(name string) string { return name + "@" }

// NewCredential makes the credential of a client process. With sign its verifier
// is a signature of the token bytes, without (insecure transport) their SHA-512.
func NewCredential(sys *pb.Sys, sign func([]byte) ([]byte, error)) (*pb.Credential, error) {
	data, err := sysBytes(sys)
	if err != nil {
		return nil, err
	}
	token := &pb.Token{Flavor: pb.Flavor_AUTH_SYS, Data: data}
	proof, err := prove(TokenBytes(token), sign)
	if err != nil {
		return nil, fmt.Errorf("cannot sign credential: %w", err)
	}
	return &pb.Credential{
		Token:    token,
		Verifier: &pb.Token{Flavor: token.GetFlavor(), Data: proof},
		Origin:   CredentialOrigin,
	}, nil
}

func prove(token []byte, sign func([]byte) ([]byte, error)) ([]byte, error) {
	if sign != nil {
		return sign(token)
	}
	sum := sha512.Sum512(token)
	return sum[:], nil
}

// VerifyCredential checks the verifier of a credential, with verify when the
// transport is secure, else by the SHA-512 of the token. It returns the status
// for the reply: [StatusOK], [StatusInval] for a credential that lacks parts and
// [StatusNoPerm] for a verifier that does not fit. Reading the certificate is up
// to the caller ([StatusNoCert]).
func VerifyCredential(cred *pb.Credential, verify func(data, signature []byte) error) Status {
	token, proof := cred.GetToken(), cred.GetVerifier().GetData()
	if token == nil || len(token.GetData()) == 0 || len(proof) == 0 ||
		cred.GetVerifier().GetFlavor() != token.GetFlavor() {
		return StatusInval
	}
	signed := TokenBytes(token)
	if verify != nil {
		if verify(signed, proof) != nil {
			return StatusNoPerm
		}
		return StatusOK
	}
	sum := sha512.Sum512(signed)
	if subtle.ConstantTimeCompare(sum[:], proof) != 1 {
		return StatusNoPerm
	}
	return StatusOK
}

// TokenBytes returns the bytes of a token that a verifier covers: fields in order
// of their numbers, without defaults. They are made by hand, since the verifier
// makes them anew and protobuf promises no order.
func TokenBytes(t *pb.Token) []byte {
	var b []byte
	b = appendVarint(b, 1, uint64(t.GetFlavor()))
	if data := t.GetData(); len(data) > 0 {
		b = protowire.AppendTag(b, 2, protowire.BytesType)
		b = protowire.AppendBytes(b, data)
	}
	return b
}

// sysBytes is the same for the identity inside of a token.
func sysBytes(s *pb.Sys) ([]byte, error) {
	var b []byte
	b = appendVarint(b, 1, s.GetStamp())
	for i, text := range []string{s.GetMachinename(), s.GetUser(), s.GetGroup()} {
		b = appendText(b, protowire.Number(2+i), text)
	}
	for _, group := range s.GetGroups() {
		b = protowire.AppendTag(b, 5, protowire.BytesType)
		b = protowire.AppendString(b, group)
	}
	b = appendText(b, 6, s.GetSecctx())
	for _, text := range append([]string{s.GetMachinename(), s.GetUser(), s.GetGroup(), s.GetSecctx()}, s.GetGroups()...) {
		if !utf8.ValidString(text) {
			return nil, fmt.Errorf("cannot make credential: %q is not UTF-8", text)
		}
	}
	return b, nil
}

func appendVarint(b []byte, number protowire.Number, v uint64) []byte {
	if v == 0 {
		return b
	}
	return protowire.AppendVarint(protowire.AppendTag(b, number, protowire.VarintType), v)
}

func appendText(b []byte, number protowire.Number, text string) []byte {
	if text == "" {
		return b
	}
	return protowire.AppendString(protowire.AppendTag(b, number, protowire.BytesType), text)
}
