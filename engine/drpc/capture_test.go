package drpc

import (
	"bytes"
	"crypto"
	"crypto/rsa"
	"crypto/sha512"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"testing"

	"github.com/matryer/is"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	"daosbox/engine/drpc/drpctest"
	"daosbox/engine/drpc/pb"
)

const captures = "../../testdata/drpc"

// capture is one recorded exchange and its row of the index.
type capture struct {
	file, request, reply string
	method               string
	sequence             string
	envelope             string
	status               int32
	sent, received       []byte // messages, out of their datagrams
	answered             bool
}

func readCaptures(t testing.TB) []capture {
	t.Helper()
	index, err := os.ReadFile(filepath.Join(captures, "index.tsv"))
	if err != nil {
		t.Fatal(err)
	}
	var all []capture
	for line := range strings.Lines(string(index)) {
		c := strings.Split(strings.TrimSpace(line), "\t")
		if c[0] == "file" {
			continue
		}
		status, err := strconv.Atoi(c[6])
		if err != nil {
			t.Fatal(line)
		}
		one := capture{file: c[0], method: c[1], request: c[2], reply: c[3], sequence: c[4], envelope: c[5], status: int32(status)}
		sent, received := readDatagrams(t, c[0])
		one.sent, one.answered = join(t, sent), len(received) > 0
		if one.answered {
			one.received = join(t, received)
		}
		all = append(all, one)
	}
	return all
}

func readDatagrams(t testing.TB, file string) (sent, received [][]byte) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(captures, file))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		b, err := hex.DecodeString(strings.TrimSpace(line[1:]))
		if err != nil {
			t.Fatal(file, err)
		}
		if line[0] == '>' {
			sent = append(sent, b)
		} else {
			received = append(received, b)
		}
	}
	return sent, received
}

// join assembles datagrams with the code under test.
func join(t testing.TB, datagrams [][]byte) []byte {
	t.Helper()
	a := assembler{limit: DefaultMaxMessage}
	for i, d := range datagrams {
		done, err := a.add(d)
		if err != nil || done != (i == len(datagrams)-1) {
			t.Fatal(i, done, err)
		}
	}
	return a.data
}

// unknown lists the fields that a message and what it holds do not know.
func unknown(m protoreflect.Message) (found []string) {
	if len(m.GetUnknown()) > 0 {
		found = append(found, string(m.Descriptor().FullName())+": "+hex.EncodeToString(m.GetUnknown()))
	}
	m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch {
		case f.IsMap() || f.Message() == nil:
		case f.IsList():
			for i := range v.List().Len() {
				found = append(found, unknown(v.List().Get(i).Message())...)
			}
		default:
			found = append(found, unknown(v.Message())...)
		}
		return true
	})
	return found
}

func TestCapturesDecode(t *testing.T) {
	is := is.New(t)
	all := readCaptures(t)
	is.Equal(len(all), 226)
	methods := make(map[Method]bool)
	for _, c := range all {
		if f, ok := detectFirst(t, c.file); f != Chunked || !ok {
			t.Errorf("%s: framing %v, %v", c.file, f, ok)
		}
		call, err := decodeCall(c.sent)
		if c.method == "-" {
			is.True(err != nil) // garbage must not decode
			checkReply(t, c, "")
			continue
		}
		is.NoErr(err)
		is.Equal(strconv.Itoa(int(call.GetMethod())), c.method)         // method of the index
		is.Equal(strconv.FormatInt(call.GetSequence(), 10), c.sequence) // sequence of the index
		m := Method(call.GetMethod())
		info, known := m.Info()
		if known {
			methods[m] = true
			is.Equal(nameOf(info.Reply), c.reply)
		}
		if c.envelope == pb.Status_FAILED_UNMARSHAL_PAYLOAD.String() {
			is.Equal(Unmarshal(call.GetBody(), info.Request()), ErrBadPayload)
		} else if len(call.GetBody()) > 0 {
			checkBody(t, c.file, nameOf(info.Request), call.GetBody())
		}
		checkReply(t, c, nameOf(info.Reply))
	}
	is.Equal(len(methods), 57) // every served method was seen
}

func detectFirst(t *testing.T, file string) (Framing, bool) {
	sent, _ := readDatagrams(t, file)
	return detect(sent[0])
}

func nameOf(make func() proto.Message) string {
	if make == nil {
		return "-"
	}
	return string(make().ProtoReflect().Descriptor().FullName())
}

func checkReply(t *testing.T, c capture, message string) {
	t.Helper()
	is := is.New(t)
	if !c.answered {
		is.Equal(c.envelope, "none")
		return
	}
	response := new(pb.Response)
	is.NoErr(proto.Unmarshal(c.received, response))
	is.Equal(unknown(response.ProtoReflect()), nil)
	is.Equal(response.GetStatus().String(), c.envelope) // status of the index
	again, err := proto.Marshal(response)
	is.NoErr(err)
	is.True(bytes.Equal(again, c.received)) // the envelope is canonical
	if c.method == "-" {
		is.Equal(response.GetSequence(), int64(badCallSequence))
		return
	}
	is.Equal(strconv.FormatInt(response.GetSequence(), 10), c.sequence) // echo
	if response.GetStatus() != pb.Status_SUCCESS {
		is.Equal(len(response.GetBody()), 0)
		return
	}
	if message == "-" {
		is.Equal(len(response.GetBody()), 0)
		return
	}
	m := checkBody(t, c.file, message, response.GetBody())
	is.Equal(bodyStatus(m), c.status) // status inside of the body
}

func bodyStatus(m protoreflect.Message) int32 {
	for _, name := range []protoreflect.Name{"status", "req_status"} {
		if f := m.Descriptor().Fields().ByName(name); f != nil {
			return int32(m.Get(f).Int())
		}
	}
	return 0
}

// checkBody decodes a body, compares it with the independent codec and encodes it
// again.
func checkBody(t *testing.T, file, message string, body []byte) protoreflect.Message {
	t.Helper()
	kind, err := protoregistry.GlobalTypes.FindMessageByName(protoreflect.FullName(message))
	if err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	m := kind.New().Interface()
	if err := Unmarshal(body, m); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	if found := unknown(m.ProtoReflect()); found != nil {
		t.Fatalf("%s: unknown fields %q", file, found)
	}
	again, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	second := kind.New().Interface()
	if err := Unmarshal(again, second); err != nil || !proto.Equal(m, second) {
		t.Fatalf("%s: changed by encoding: %v", file, err)
	}
	table := drpctest.Messages()
	theirs, err := table.Decode(message, body)
	if err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	ours, err := table.Decode(message, again)
	if err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	if !reflect.DeepEqual(dropZero(theirs), dropZero(ours)) {
		t.Fatalf("%s: %v became %v", file, theirs, ours)
	}
	return m.ProtoReflect()
}

// dropZero leaves out defaults that one side sends explicitly: device ids of hand
// made calls are empty texts.
func dropZero(m map[string]any) map[string]any {
	for name, v := range m {
		if text, ok := v.(string); ok && text == "" && name == "uuid" {
			delete(m, name)
		}
	}
	return m
}

// Most bodies come out of the encoder as they came in; the others use the
// unpacked form of repeated numbers, spell out a default, or have a map.
func TestCapturesCanonical(t *testing.T) {
	is := is.New(t)
	same, other := 0, 0
	for _, c := range readCaptures(t) {
		call, err := decodeCall(c.sent)
		if err != nil {
			continue
		}
		again, err := proto.Marshal(call)
		is.NoErr(err)
		// One hand-made call spells out an empty body.
		is.True(bytes.Equal(again, c.sent) || c.file == "207-caller-engine-202-set-rank-inval-3.hex")
		info, ok := Method(call.GetMethod()).Info()
		if !ok || info.Request == nil || c.envelope == "FAILED_UNMARSHAL_PAYLOAD" {
			continue
		}
		m := info.Request()
		is.NoErr(Unmarshal(call.GetBody(), m))
		body, err := proto.Marshal(m)
		is.NoErr(err)
		if bytes.Equal(body, call.GetBody()) {
			same++
		} else {
			other++
			t.Logf("%s: other bytes of the same meaning", c.file)
		}
	}
	is.True(same > 150)
	is.True(other <= 4)
}

func TestCapturedCredentials(t *testing.T) {
	is := is.New(t)
	key := agentKey(t)
	verify := func(data, signature []byte) error {
		sum := sha512.Sum512(data)
		return rsa.VerifyPSS(key, crypto.SHA512, sum[:], signature, nil)
	}
	hashed, signed := 0, 0
	for _, c := range readCaptures(t) {
		cred := capturedCredential(t, c)
		if cred == nil || cred.GetToken() == nil {
			continue
		}
		secure := strings.Contains(c.file, "certificates")
		use := verify
		if !secure {
			use = nil
			hashed++
		} else {
			signed++
		}
		is.Equal(VerifyCredential(cred, use), StatusOK) // verifier of a real agent
		spoilt := proto.Clone(cred).(*pb.Credential)
		spoilt.Verifier.Data[3] ^= 1
		is.Equal(VerifyCredential(spoilt, use), StatusNoPerm)
		is.Equal(cred.GetOrigin(), CredentialOrigin)

		sys := new(pb.Sys)
		is.NoErr(Unmarshal(cred.GetToken().GetData(), sys))
		again, err := NewCredential(sys, nil)
		is.NoErr(err)
		is.True(bytes.Equal(again.GetToken().GetData(), cred.GetToken().GetData())) // same token bytes
		if !secure {
			is.True(proto.Equal(again, cred))
		}
	}
	is.True(hashed >= 4)
	is.True(signed >= 7)
}

func capturedCredential(t *testing.T, c capture) *pb.Credential {
	t.Helper()
	call, err := decodeCall(c.sent)
	if err != nil {
		return nil
	}
	switch Method(call.GetMethod()) {
	case MethodRequestCredentials:
		response, resp := new(pb.Response), new(pb.GetCredResp)
		if err := proto.Unmarshal(c.received, response); err != nil {
			t.Fatal(err)
		}
		if err := Unmarshal(response.GetBody(), resp); err != nil {
			t.Fatal(err)
		}
		return resp.GetCred()
	case MethodValidateCredential:
		req := new(pb.ValidateCredReq)
		if err := Unmarshal(call.GetBody(), req); err != nil {
			t.Fatal(err)
		}
		return req.GetCred()
	}
	return nil
}

func agentKey(t *testing.T) *rsa.PublicKey {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(captures, "agent.crt"))
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(text)
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return cert.PublicKey.(*rsa.PublicKey)
}

func TestCapturedTrees(t *testing.T) {
	is := is.New(t)
	trees := 0
	for _, c := range readCaptures(t) {
		call, err := decodeCall(c.sent)
		if err != nil || c.request != "mgmt.PoolCreateReq" {
			continue
		}
		req := new(pb.PoolCreateReq)
		is.NoErr(Unmarshal(call.GetBody(), req))
		root, flags, err := ParseFaultDomains(req.GetFaultDomains())
		is.NoErr(err)
		again, err := root.Words(flags)
		is.NoErr(err)
		is.Equal(again, req.GetFaultDomains())
		trees++
	}
	is.True(trees > 5)
}

func TestCapturedEvents(t *testing.T) {
	is := is.New(t)
	events := 0
	for _, c := range readCaptures(t) {
		if c.request != "shared.ClusterEventReq" || c.method == "-" {
			continue
		}
		call, err := decodeCall(c.sent)
		is.NoErr(err)
		req := new(pb.ClusterEventReq)
		is.NoErr(Unmarshal(call.GetBody(), req))
		_, want, _ := strings.Cut(strings.TrimSuffix(c.file, ".hex"), "cluster-event-")
		want = strings.ReplaceAll(strings.TrimRight(want, "-0123456789"), "-", "_")
		if want == "failure" || want == "unknown_id" {
			want = ""
		}
		if req.GetEvent() == nil {
			continue
		}
		name := EventOf(Chunked, req.GetEvent())
		is.Equal(name, want) // name of the event in the file name
		events++
	}
	is.True(events > 12)
}
