package cli

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"daosbox/cluster/fault"

	"github.com/matryer/is"
)

func TestExitOf(t *testing.T) {
	for _, c := range []struct {
		err  error
		want Exit
	}{
		{nil, OK},
		{errors.New("anything"), Failed},
		{fault.New(fault.NotFound, "no pool"), Failed},
		{fault.New(fault.Usage, "bad flag"), Usage},
		{fault.New(fault.EvenReplicas, "two replicas"), Failed}, // of a file; a flag is Usage
		{fault.New(fault.Partial, "one host"), Partial},
		{fault.New(fault.Unreachable, "no host"), Unreachable},
		{fault.New(fault.Timeout, "slow"), TimedOut},
		{fmt.Errorf("slow: %w", context.DeadlineExceeded), TimedOut},
		{fault.New(fault.NoLeader, "no leader"), NoLeader},
		{fault.New(fault.NotReplica, "asked the wrong one"), NoLeader},
		{fault.New(fault.Permission, "not yours"), Permission},
		{fault.New(fault.Certificate, "not trusted"), Permission},
		{fault.New(fault.CertificateMissing, "not there"), Failed},
		{fault.New(fault.CertificateUnreadable, "not readable"), Permission},
		{fault.New(fault.CertificateInvalid, "expired"), Permission},
		{fault.New(fault.Refused, "it holds data"), Refused},
		{fault.New(fault.AlreadyFormatted, "it is formatted"), Refused},
	} {
		t.Run(fmt.Sprint(c.err), func(t *testing.T) {
			is := is.New(t)
			is.Equal(ExitOf(c.err), c.want)
			if c.err != nil {
				is.Equal(ExitOf(fault.Wrap(fault.Of(c.err), c.err, "cannot go on")), c.want)
			}
		})
	}
}
