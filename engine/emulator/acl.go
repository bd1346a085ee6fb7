package emulator

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"

	"daosbox/engine/drpc"
	"daosbox/engine/drpc/pb"
)

// maxACLEntries bounds an access control list.
const maxACLEntries = 4096

// ace is an entry of an access control list, type:flags:principal:permissions.
type ace struct {
	types, flags, principal, perms string
}

func (a ace) String() string {
	return a.types + ":" + a.flags + ":" + a.principal + ":" + a.perms
}

// parseACE reads an entry in its short text form.
func parseACE(text string) (ace, error) {
	parts := strings.Split(text, ":")
	if len(parts) != 4 {
		return ace{}, badACE(text)
	}
	a := ace{parts[0], parts[1], parts[2], parts[3]}
	special := a.principal == "OWNER@" || a.principal == "GROUP@" || a.principal == "EVERYONE@"
	group := strings.Contains(a.flags, "G")
	switch {
	case a.types == "" || !within(a.types, "AUL") || !within(a.flags, "GSFP") || !within(a.perms, "rwcdtTaAoDVUL"):
	case !strings.HasSuffix(a.principal, "@") || len(a.principal) < 2 || len(a.principal) > 256:
	case special && group != (a.principal == "GROUP@"):
	default:
		return a, nil
	}
	return ace{}, badACE(text)
}

func badACE(text string) error {
	return fmt.Errorf("%w: %q is no access control entry", drpc.StatusInval, text)
}

// within reports whether text has only letters of set, each once at most.
func within(text, set string) bool {
	for i, c := range text {
		if !strings.ContainsRune(set, c) || strings.ContainsRune(text[:i], c) {
			return false
		}
	}
	return true
}

// class is the order of entries: owner, users, owner's group, groups, all others.
func (a ace) class() int {
	switch {
	case a.principal == "OWNER@":
		return 0
	case a.principal == "GROUP@":
		return 2
	case a.principal == "EVERYONE@":
		return 4
	case strings.Contains(a.flags, "G"):
		return 3
	}
	return 1
}

func (a ace) sameSubject(b ace) bool { return a.class() == b.class() && a.principal == b.principal }

// buildACL checks and orders the entries of a whole list; nobody may occur twice.
// An empty list gives the default: the owner and the owner's group may read and
// write.
func buildACL(entries []string) ([]string, error) {
	if len(entries) == 0 {
		return []string{"A::OWNER@:rw", "A:G:GROUP@:rw"}, nil
	}
	return mergeACL(nil, entries, false)
}

// mergeACL puts entries into a list, replacing those of the same subject when
// that is allowed.
func mergeACL(old, entries []string, replace bool) ([]string, error) {
	if len(old)+len(entries) > maxACLEntries {
		return nil, drpc.StatusInval
	}
	list, err := parseACL(old)
	if err != nil {
		return nil, err
	}
	for _, text := range entries {
		a, err := parseACE(text)
		if err != nil {
			return nil, err
		}
		at := slices.IndexFunc(list, a.sameSubject)
		switch {
		case at < 0:
			list = append(list, a)
		case replace:
			list[at] = a
		default:
			return nil, fmt.Errorf("%w: %s has two entries", drpc.StatusInval, a.principal)
		}
	}
	slices.SortStableFunc(list, func(a, b ace) int { return a.class() - b.class() })
	texts := make([]string, len(list))
	for i, a := range list {
		texts[i] = a.String()
	}
	return texts, nil
}

func parseACL(texts []string) ([]ace, error) {
	var list []ace
	for _, text := range texts {
		a, err := parseACE(text)
		if err != nil {
			return nil, err
		}
		list = append(list, a)
	}
	return list, nil
}

// deleteACE removes the entry of a principal: u:name@, g:name@ or a special one.
func deleteACE(old []string, principal string) ([]string, error) {
	want := ace{principal: principal}
	if kind, name, ok := strings.Cut(principal, ":"); ok {
		want.principal = name
		switch kind {
		case "u":
		case "g":
			want.flags = "G"
		default:
			return nil, fmt.Errorf("%w: %q is no principal", drpc.StatusInval, principal)
		}
	} else if want.class() == 1 {
		return nil, fmt.Errorf("%w: %q is no principal", drpc.StatusInval, principal)
	}
	list, err := parseACL(old)
	if err != nil {
		return nil, err
	}
	at := slices.IndexFunc(list, want.sameSubject)
	if at < 0 {
		return nil, drpc.StatusNonexist
	}
	return slices.Delete(slices.Clone(old), at, at+1), nil
}

func aclReply(s *service) *pb.ACLResp {
	return &pb.ACLResp{Acl: &pb.AccessControlList{Entries: s.ACL, OwnerUser: s.User, OwnerGroup: s.Group}}
}

func poolGetACL(_ context.Context, _ *engine, s *service, _ *pb.GetACLReq) (proto.Message, bool, error) {
	return aclReply(s), false, nil
}

func poolOverwriteACL(_ context.Context, _ *engine, s *service, req *pb.ModifyACLReq) (proto.Message, bool, error) {
	list, err := mergeACL(nil, req.GetEntries(), false)
	if err != nil {
		return nil, false, err
	}
	s.ACL = list
	return aclReply(s), true, nil
}

func poolUpdateACL(_ context.Context, _ *engine, s *service, req *pb.ModifyACLReq) (proto.Message, bool, error) {
	list, err := mergeACL(s.ACL, req.GetEntries(), true)
	if err != nil {
		return nil, false, err
	}
	s.ACL = list
	return aclReply(s), true, nil
}

func poolDeleteACL(_ context.Context, _ *engine, s *service, req *pb.DeleteACLReq) (proto.Message, bool, error) {
	list, err := deleteACE(s.ACL, req.GetPrincipal())
	if err != nil {
		return nil, false, err
	}
	s.ACL = list
	return aclReply(s), true, nil
}
