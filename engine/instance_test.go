package engine

import (
	"context"
	"errors"
	"strings"
	"syscall"
	"testing"
	"time"

	"daosbox/cluster/fault"
	"daosbox/engine/drpc"

	"github.com/matryer/is"
)

func TestStartStop(t *testing.T) {
	is := is.New(t)
	var joined Notify
	r := newRig(t, "serve", func(c *Config) {
		c.Steps.Join = func(_ context.Context, n Notify) error { joined = n; return nil }
	})
	is.Equal(r.Status().State, Stopped)
	is.NoErr(r.Stop(within(t), Ask)) // nothing to stop
	r.ready()
	is.Equal(joined.URI, "ofi+tcp://1.2.3.4:1")
	status := r.Status()
	is.Equal(status.Socket(), "/s")
	is.Equal(status.Framing(), drpc.Chunked)
	is.True(exists(status.PID))
	is.True(!status.StartedAt.IsZero())

	is.NoErr(r.Start(within(t))) // a second start changes nothing
	is.Equal(r.Status().PID, status.PID)
	err := r.NotifyReady(Notify{Index: 3})
	is.Equal(fault.Of(err), fault.Refused) // a second report

	is.NoErr(r.Stop(within(t), Ask))
	is.True(!exists(status.PID))
	is.Equal(r.seen(), []State{Stopped, Preparing, Starting, Joining, Ready, Stopping, Stopped})
	ends := r.ends()
	is.Equal(len(ends), 1)
	is.Equal(ends[0].Err.Error(), "process exited with 0")
	is.Equal(ends[0].PID, status.PID)
	is.True(ends[0].Ready && ends[0].Asked)
	is.Equal(ends[0].Tail, []string{"up", "down"})
	is.Equal(r.Status().Socket(), "")
	is.True(r.log.has(`level=INFO msg="daos_engine:3 up" engine=3`))

	r.ready() // and again
	is.True(r.Status().PID != status.PID)
}

func TestNoNotifyExpected(t *testing.T) {
	is := is.New(t)
	r := newRig(t, "serve", nil)
	is.NoErr(r.Stop(within(t), Ask))
	is.Equal(fault.Of(r.NotifyReady(Notify{Index: 3})), fault.Refused)
	is.Equal(fault.Of(r.NotifyReady(Notify{Index: 0})), fault.Refused)
	idle := New(Config{})
	is.Equal(fault.Of(idle.NotifyReady(Notify{})), fault.NotReady)
	idle.Formatted() // without Run it has no effect, and does not block
}

func TestDiesEarly(t *testing.T) {
	is := is.New(t)
	r := newRig(t, "die", nil)
	err := <-r.start()
	is.Equal(fault.Of(err), fault.Engine)
	is.True(strings.Contains(err.Error(), "cannot start engine 3"))
	is.True(strings.Contains(err.Error(), "exit status 1"))
	is.True(strings.Contains(err.Error(), "no such interface: eth9"))
	is.True(fault.HintOf(err) != "")
	is.True(!strings.Contains(err.Error(), "\n"))
	is.Equal(r.Status().State, Failed)
	is.Equal(len(r.ends()), 3) // tries
	is.Equal(r.seen(), []State{Stopped, Preparing, Starting, Backoff, Preparing, Starting, Backoff, Preparing, Starting, Failed})
	is.True(r.log.has(`level=ERROR msg="daos_engine:3 no such interface: eth9" engine=3`))
	is.Equal(r.Status().LastExit.Ready, false)
	is.Equal(r.Status().LastError, err)

	is.True(<-r.start() != nil) // asked again, it tries again
	is.Equal(len(r.ends()), 6)
	is.NoErr(r.Stop(within(t), Ask))
	is.Equal(r.Status().State, Stopped)
}

func TestExitsWithZeroEarly(t *testing.T) {
	is := is.New(t)
	r := newRig(t, "zero", func(c *Config) { c.Backoff.Tries = 1 })
	err := <-r.start()
	is.True(strings.Contains(err.Error(), "process exited with 0"))
	is.True(strings.Contains(err.Error(), "printed nothing"))
}

func TestBackoffIsInterrupted(t *testing.T) {
	is := is.New(t)
	r := newRig(t, "die", func(c *Config) { c.Backoff = Retry{First: time.Hour, Max: time.Hour} })
	first := r.start()
	r.await(Backoff)
	second := r.start() // does not wait for the hour
	eventually(t, "another try", func() bool { return len(r.ends()) == 2 })
	r.await(Backoff)
	is.NoErr(r.Stop(within(t), Ask))
	is.Equal(fault.Of(<-first), fault.Canceled)
	is.Equal(fault.Of(<-second), fault.Canceled)
	is.Equal(r.Status().State, Stopped)
}

func TestStartDeadline(t *testing.T) {
	is := is.New(t)
	r := newRig(t, "deaf", func(c *Config) {
		c.StartTimeout = 300 * time.Millisecond
		c.Backoff.Tries = 2
	})
	err := <-r.start()
	is.True(strings.Contains(err.Error(), "did not report ready within 300ms"))
	is.Equal(len(r.ends()), 2)
	is.Equal(r.ends()[0].Err.Error(), "signal: killed")
	is.Equal(r.seen()[:5], []State{Stopped, Preparing, Starting, Aborting, Backoff})
}

func TestSetupDeadline(t *testing.T) {
	is := is.New(t)
	r := newRig(t, "deaf", func(c *Config) {
		c.SetupTimeout = 50 * time.Millisecond
		c.Backoff.Tries = 1
		c.Steps.Join = func(ctx context.Context, _ Notify) error { <-ctx.Done(); return ctx.Err() }
	})
	out := r.start()
	r.await(Starting)
	r.notify()
	is.True(strings.Contains((<-out).Error(), "not set up within 50ms"))
}

func TestJoinFails(t *testing.T) {
	is := is.New(t)
	why := fault.New(fault.WrongSystem, "cannot join: wrong system").WithHint("fix the name")
	r := newRig(t, "serve", func(c *Config) {
		c.Steps.Join = func(context.Context, Notify) error { return why }
	})
	out := r.start()
	r.await(Starting)
	r.notify()
	err := <-out
	is.True(errors.Is(err, fault.Kind(fault.WrongSystem))) // the meaning is kept
	is.Equal(fault.HintOf(err), "fix the name")
	is.Equal(len(r.ends()), 1) // a refusal is not repeated
	is.Equal(r.ends()[0].Asked, false)
	is.Equal(r.Status().State, Failed)
}

func TestJoinWantsRestart(t *testing.T) {
	is := is.New(t)
	joins := 0
	r := newRig(t, "serve", func(c *Config) {
		c.Backoff = Retry{First: time.Hour, Max: time.Hour} // a restart does not wait for it
		c.Steps.Join = func(context.Context, Notify) error {
			if joins++; joins == 1 {
				return errors.Join(errors.New("system is being checked"), ErrRestart)
			}
			return nil
		}
	})
	out := r.start()
	r.await(Starting)
	first := r.Status().PID
	r.notify()
	eventually(t, "another process", func() bool { s := r.Status(); return s.State == Starting && s.PID != 0 && s.PID != first })
	r.notify()
	is.NoErr(<-out)
	is.Equal(joins, 2)
	is.NoErr(r.Status().LastError) // it is up
}

func TestKilledWhileJoining(t *testing.T) {
	is := is.New(t)
	r := newRig(t, "serve", func(c *Config) {
		c.Backoff.Tries = 1
		c.Steps.Join = func(ctx context.Context, _ Notify) error { <-ctx.Done(); return nil } // too late
	})
	out := r.start()
	r.await(Starting)
	eventually(t, "pid", func() bool { return r.Status().PID != 0 })
	r.notify()
	r.await(Joining)
	is.NoErr(syscall.Kill(r.Status().PID, syscall.SIGSEGV))
	err := <-out
	is.True(strings.Contains(err.Error(), "before it was set up"))
	is.Equal(r.Status().State, Failed)
	is.True(r.ends()[0].Notify != nil)
}

func TestKilledWhenReady(t *testing.T) {
	is := is.New(t)
	r := newRig(t, "serve", nil)
	r.ready()
	is.NoErr(syscall.Kill(r.Status().PID, syscall.SIGKILL))
	r.await(Failed)
	ends := r.ends()
	is.Equal(len(ends), 1) // it is not restarted
	is.Equal(ends[0].Err.Error(), "signal: killed")
	is.True(ends[0].Ready && !ends[0].Asked)
	is.True(strings.Contains(r.Status().LastError.Error(), "signal: killed"))
	is.NoErr(r.Restart(within2(t, r))) // asked for, it comes back
}

// within2 reports ready for the next process, in the background.
func within2(t *testing.T, r *rig) context.Context {
	t.Helper()
	old := r.Status().PID
	done := make(chan struct{})
	go func() {
		defer close(done)
		eventually(t, "next process", func() bool {
			s := r.Status()
			return s.State == Starting && s.PID != old && s.PID != 0
		})
		r.notify()
	}()
	t.Cleanup(func() { <-done })
	return within(t)
}

func TestRestartWaitsForTheEnd(t *testing.T) {
	is := is.New(t)
	r := newRig(t, "deaf", func(c *Config) { c.StopTimeout = 100 * time.Millisecond })
	r.ready()
	old := r.Status().PID
	is.NoErr(r.Restart(within2(t, r))) // it does not end itself, and is killed
	is.True(r.Status().PID != old)
	is.Equal(r.Status().State, Ready)
}

func TestIgnoresInterrupt(t *testing.T) {
	is := is.New(t)
	r := newRig(t, "deaf", func(c *Config) { c.StopTimeout = 50 * time.Millisecond })
	r.ready()
	is.NoErr(r.Stop(within(t), Ask))
	is.Equal(r.ends()[0].Err.Error(), "signal: killed")
	is.True(r.ends()[0].Asked)
	is.True(r.log.has("engine does not end in time"))
}

func TestForce(t *testing.T) {
	is := is.New(t)
	r := newRig(t, "deaf", func(c *Config) { c.StopTimeout = time.Hour })
	r.ready()
	polite := make(chan error, 1)
	go func() { polite <- r.Stop(context.Background(), Ask) }()
	r.await(Stopping)
	is.Equal(fault.Of(r.Start(within(t))), fault.Busy) // no start while it stops
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	is.True(r.Stop(ctx, Ask) != nil) // a caller that left is not waited for
	is.NoErr(r.Stop(within(t), Force))
	is.NoErr(<-polite)
}

func TestStopDuringStart(t *testing.T) {
	t.Run("starting", func(t *testing.T) {
		is := is.New(t)
		r := newRig(t, "deaf", nil)
		out := r.start()
		r.await(Starting)
		is.NoErr(r.Stop(within(t), Ask)) // an interrupt would stay pending: killed at once
		is.Equal(fault.Of(<-out), fault.Canceled)
		is.Equal(r.seen(), []State{Stopped, Preparing, Starting, Stopping, Stopped})
		is.Equal(r.ends()[0].Ready, false)
	})
	t.Run("joining", func(t *testing.T) {
		is := is.New(t)
		r := newRig(t, "serve", func(c *Config) {
			c.Steps.Join = func(ctx context.Context, _ Notify) error { <-ctx.Done(); return ctx.Err() }
		})
		out := r.start()
		r.await(Starting)
		r.notify()
		r.await(Joining)
		is.NoErr(r.Stop(within(t), Ask))
		is.Equal(fault.Of(<-out), fault.Canceled)
		is.Equal(r.Status().State, Stopped)
	})
	t.Run("preparing", func(t *testing.T) {
		is := is.New(t)
		r := newRig(t, "serve", func(c *Config) {
			c.Steps.Prepare = func(ctx context.Context) (Spec, error) { <-ctx.Done(); return Spec{}, ctx.Err() }
		})
		out := r.start()
		r.await(Preparing)
		is.NoErr(r.Stop(within(t), Ask))
		is.Equal(fault.Of(<-out), fault.Canceled)
		is.Equal(len(r.ends()), 0)
	})
	t.Run("end of Run", func(t *testing.T) {
		is := is.New(t)
		r := newRig(t, "deaf", nil)
		out := r.start()
		r.await(Starting)
		r.stop()
		is.True(<-out != nil)
		<-r.done
		is.Equal(r.Status().PID, 0)
		is.Equal(fault.Of(r.Start(within(t))), fault.NotReady)
		is.Equal(fault.Of(r.Run(within(t))), fault.Internal) // once only
	})
}

func TestStartCallerLeaves(t *testing.T) {
	is := is.New(t)
	r := newRig(t, "serve", nil)
	ctx, cancel := context.WithCancel(context.Background())
	out := make(chan error, 1)
	go func() { out <- r.Start(ctx) }()
	r.await(Starting)
	cancel()
	err := <-out
	is.Equal(fault.Of(err), fault.Timeout)
	is.True(errors.Is(err, context.Canceled))
	again := r.start() // the start went on
	r.notify()
	is.NoErr(<-again)
	is.Equal(len(r.ends()), 0)
}

func TestPrepareFails(t *testing.T) {
	is := is.New(t)
	r := newRig(t, "serve", func(c *Config) {
		c.Steps.Prepare = func(context.Context) (Spec, error) {
			return Spec{}, fault.New(fault.Corrupt, "cannot read superblock: bad").WithHint("restore it")
		}
	})
	err := <-r.start()
	is.Equal(fault.Of(err), fault.Corrupt)
	is.Equal(fault.HintOf(err), "restore it")
	is.Equal(r.seen(), []State{Stopped, Preparing, Failed})
}

func TestNoBinary(t *testing.T) {
	is := is.New(t)
	r := newRig(t, "serve", func(c *Config) {
		c.Steps.Prepare = func(context.Context) (Spec, error) { return Spec{Binary: "/nonexistent/daos_engine"}, nil }
	})
	err := <-r.start()
	is.Equal(fault.Of(err), fault.Engine)
	is.True(strings.Contains(err.Error(), "/nonexistent/daos_engine"))
	is.Equal(r.seen(), []State{Stopped, Preparing, Starting, Failed})
}

func TestAwaitFormat(t *testing.T) {
	is := is.New(t)
	formatted := make(chan bool, 1)
	formatted <- false
	r := newRig(t, "serve", func(c *Config) {
		c.Steps.Prepare = func(context.Context) (Spec, error) {
			if !<-formatted {
				return Spec{}, ErrAwaitFormat
			}
			return childSpec("serve"), nil
		}
	})
	r.Formatted() // nobody waits for it
	is.Equal(r.Status().State, Stopped)
	is.Equal(<-r.start(), ErrAwaitFormat)
	is.Equal(<-r.start(), ErrAwaitFormat) // still
	is.NoErr(r.Stop(within(t), Force))
	is.Equal(r.Status().State, AwaitFormat)
	formatted <- true
	r.Formatted()
	r.await(Starting)
	r.notify()
	is.NoErr(<-r.start())
	is.Equal(r.seen(), []State{Stopped, Preparing, AwaitFormat, Preparing, Starting, Joining, Ready})
}

// TestFormattedMeanwhile: a format that ends while storage is being checked is not
// lost.
func TestFormattedMeanwhile(t *testing.T) {
	is := is.New(t)
	verdict := make(chan error)
	r := newRig(t, "serve", func(c *Config) {
		c.Steps.Prepare = func(context.Context) (Spec, error) { return childSpec("serve"), <-verdict }
	})
	out := r.start()
	r.await(Preparing)
	r.Formatted()
	verdict <- ErrAwaitFormat
	verdict <- nil
	r.await(Starting)
	r.notify()
	is.NoErr(<-out)
}

// TestStepDoesNotReturn: a step that ignores its end holds up its instance, but
// nobody who asks for a stop.
func TestStepDoesNotReturn(t *testing.T) {
	t.Run("then it does", func(t *testing.T) {
		is := is.New(t)
		release := make(chan struct{})
		r := newRig(t, "serve", func(c *Config) {
			c.StopTimeout = 20 * time.Millisecond
			c.Steps.Prepare = func(context.Context) (Spec, error) { <-release; return childSpec("serve"), nil }
		})
		out := r.start()
		r.await(Preparing)
		err := r.Stop(within(t), Ask)
		is.Equal(fault.Of(err), fault.Engine)
		is.True(strings.Contains(err.Error(), "a step of its start does not end"))
		close(release)
		is.Equal(fault.Of(<-out), fault.Canceled)
		is.Equal(r.Status().State, Stopped) // and what it prepared is not started
		is.Equal(len(r.ends()), 0)
	})
	t.Run("at the end of Run", func(t *testing.T) {
		is := is.New(t)
		release, entered := make(chan struct{}), make(chan struct{})
		i := New(Config{
			StopTimeout: 20 * time.Millisecond,
			Steps: Steps{Prepare: func(context.Context) (Spec, error) {
				close(entered)
				<-release
				return Spec{}, nil
			}},
		})
		ctx, cancel := context.WithCancel(context.Background())
		ran, out := make(chan error, 1), make(chan error, 1)
		go func() { ran <- i.Run(ctx) }()
		go func() { out <- i.Start(context.Background()) }()
		<-entered
		cancel()
		is.Equal(fault.Of(<-ran), fault.Engine)
		is.Equal(fault.Of(<-out), fault.NotReady)
		close(release)
	})
}

func TestNothingToStart(t *testing.T) {
	is := is.New(t)
	r := newRig(t, "", func(c *Config) { c.Steps = Steps{} })
	is.True(strings.Contains((<-r.start()).Error(), "no program to start"))
}

func TestQuote(t *testing.T) {
	is := is.New(t)
	got := quote([]string{"dropped", strings.Repeat("é", 1000), "b\x1b[2J", "c"})
	is.True(len(got) < quotedBytes+50)
	is.True(strings.HasSuffix(got, " | b[2J | c)"))
	is.True(!strings.Contains(got, "dropped"))
}

func TestRetryDelay(t *testing.T) {
	is := is.New(t)
	retry := Config{}.withDefaults().Backoff
	var got []time.Duration
	for n := range 8 {
		got = append(got, retry.delay(n+1)/time.Second)
	}
	is.Equal(got, []time.Duration{1, 2, 4, 8, 16, 30, 30, 30})
	is.Equal(Config{}.withDefaults().StartTimeout, 3*time.Minute)
}
