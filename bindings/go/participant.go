package plasmastore

/*
#include <plasma_store.h>
*/
import "C"

import (
	"context"
	"errors"
	"sync"
)

// participant is one in what several processes share, through a handle of C's.
type participant struct {
	mutex   sync.RWMutex // held for reading during calls, for writing by leave
	client  *Client
	what    string
	once    sync.Once
	closing chan struct{} // closed when waits are to end
	left    bool
}

// take has it take part from now on.
func (p *participant) take(client *Client, what string) {
	p.client, p.what, p.closing = client, what, make(chan struct{})
}

// leave ends what waits, and takes part no more. It may be called twice.
func (p *participant) leave(function func()) {
	p.once.Do(func() { close(p.closing) })
	p.mutex.Lock()
	defer p.mutex.Unlock()
	if !p.left {
		p.left = true
		function()
	}
}

// use makes a call that does not wait.
func (p *participant) use(function func() C.plasma_status) error {
	p.mutex.RLock()
	defer p.mutex.RUnlock()
	if p.left {
		return closed(p.what)
	}
	return call(function)
}

// wait makes a call that may wait: at first with a timeout of 0, and where that was too short with this one, until the
// context is done.
func (p *participant) wait(ctx context.Context, timeout C.int64_t, function func(C.int64_t) C.plasma_status) error {
	err := p.use(func() C.plasma_status { return function(0) })
	if !errors.Is(err, Timeout) {
		return err
	}
	return p.sleep(ctx, func() C.plasma_status { return function(timeout) })
}

// sleep makes a call that waits.
func (p *participant) sleep(ctx context.Context, function func() C.plasma_status) error {
	p.mutex.RLock()
	defer p.mutex.RUnlock()
	if p.left {
		return closed(p.what)
	}
	err := p.client.waitOr(ctx, p.closing, function)
	select {
	case <-p.closing:
		if errors.Is(err, Interrupted) {
			return closed(p.what)
		}
	default:
	}
	return err
}
