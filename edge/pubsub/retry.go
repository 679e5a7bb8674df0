package pubsub

import (
	"context"
	"errors"
	"time"
)

// Policy runs an operation, perhaps several times or with a deadline. It returns the error of the last run, or its own
// (such as an open circuit breaker's). It is safe for concurrent use.
type Policy interface {
	Run(ctx context.Context, op func(ctx context.Context) error) error
}

// Retry is a Policy that runs an operation again while it fails, like Dapr's constant and exponential retries.
type Retry struct {
	Wait    time.Duration // before the first retry
	MaxWait time.Duration // 0: every wait is Wait; else waits grow by half up to this
	Max     int           // retries; negative: without end
}

var _ Policy = Retry{}

// Run runs op until it succeeds, its retries are used up or ctx is done.
func (r Retry) Run(ctx context.Context, op func(context.Context) error) error {
	wait := r.Wait
	for n := 0; ; n++ {
		err := op(ctx)
		if err == nil || ctx.Err() != nil || (r.Max >= 0 && n >= r.Max) {
			return err
		}
		sleep(ctx, wait)
		if r.MaxWait > 0 {
			wait = min(wait+wait/2, r.MaxWait)
		}
	}
}

// errNak makes a Policy see that the receiver asked for redelivery.
var errNak = errors.New("the application asked for redelivery")

// guarded delivers under a policy, if there is one. A policy that gives up on an event that was refused, or that took
// too long, ends in Nak; an error means that the receiver could not be reached.
func guarded(ctx context.Context, p Policy, deliver func(context.Context) (Verdict, error)) (Verdict, error) {
	if p == nil {
		return deliver(ctx)
	}
	v, gone := Nak, error(nil)
	err := p.Run(ctx, func(ctx context.Context) (err error) {
		v, err = deliver(ctx)
		switch {
		case errors.Is(err, errStreamEnded): // no use to try again
			gone = err
			return nil
		case err == nil && v == Nak:
			return errNak
		}
		return err
	})
	switch {
	case gone != nil:
		return Nak, gone
	case err == nil:
		return v, nil
	case errors.Is(err, errNak), errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil:
		return Nak, nil
	}
	return Nak, err
}
