package main

// What each model's work, ledger and check are stands at the head of the file of the same name in benches/src/models/.
// The comments here say where Go makes a difference.

import (
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// place takes as many processors as the placement has CPUs.
func place(cell map[string]string) {
	processors := len(strings.Split(cell["cpus"], ","))
	runtime.GOMAXPROCS(processors)
	count.alone = processors == 1
}

// open readies a cell, or says why it cannot be had.
func open(cell map[string]string) (slices, error) {
	place(cell)
	switch cell["model"] {
	case "yield-ring":
		return yieldRing(cell)
	case "ping-pong":
		return pingPong()
	case "spawn-join":
		return spawnJoin(cell)
	case "spawn-batch":
		return spawnBatch(cell)
	case "tree":
		return tree(cell)
	case "pump":
		return pump(cell)
	case "parked":
		return parked(cell)
	}
	return nil, fmt.Errorf("this contender does not run the model %s", cell["model"])
}

// count is of switches between units. Go has none to ask, so wherever control comes back to a unit, it looks whether another
// one had it last. One processor runs one goroutine at a time, so plain words do; with more nothing is counted.
var count struct {
	alone          bool
	last, switches uint64
}

// arrived notes that control has come to the unit with this ordinal.
func arrived(unit uint64) {
	if count.alone && count.last != unit {
		count.last = unit
		count.switches++
	}
}

// since is the number of switches after an earlier count, where there is one.
func since(earlier uint64) *uint64 {
	if !count.alone {
		return nil
	}
	switches := count.switches - earlier
	return &switches
}

// nanoseconds of the monotonic clock, the one that every contender reads.
func nanoseconds(since time.Time) uint64 {
	return uint64(time.Since(since).Nanoseconds())
}

// line is what the units of a slice stand at until all are there, and leave when the last has ended.
type line struct {
	units, there, ended atomic.Uint64
	open                atomic.Bool

	start    time.Time
	before   uint64
	elapsed  uint64
	switches *uint64
	done     chan struct{}
}

func newLine(units uint64) *line {
	l := &line{done: make(chan struct{})}
	l.units.Store(units)
	return l
}

// wait lets the first unit start the clock when all are there, and the others go then. They give way to each other, so
// nobody is asleep when the work begins.
func (l *line) wait(unit uint64) {
	if unit == 0 {
		for l.there.Load()+1 < l.units.Load() {
			runtime.Gosched()
		}
		arrived(unit)
		l.before = count.switches
		l.start = time.Now()
		l.open.Store(true)
		return
	}
	l.there.Add(1)
	for !l.open.Load() {
		runtime.Gosched()
	}
	arrived(unit)
}

// stop ends the time: of the unit that measures, or of the last.
func (l *line) stop() {
	l.elapsed = nanoseconds(l.start)
	l.switches = since(l.before)
}

// leave tells the driver when all have ended.
func (l *line) leave() (last bool) {
	return l.ended.Add(1) == l.units.Load()
}

// The ring is made anew for each slice: a goroutine is cheap to start, and what that takes is reported as base_ns.
func yieldRing(cell map[string]string) (slices, error) {
	tasks, err := number(cell, "tasks")
	if err != nil {
		return nil, err
	}
	return func(iterations uint64) sample {
		begin := time.Now()
		l := newLine(tasks)
		var over atomic.Bool
		var yields atomic.Uint64
		end := func(own uint64) {
			yields.Add(own)
			if l.leave() {
				close(l.done)
			}
		}
		go func() {
			l.wait(0)
			for i := uint64(0); i < iterations; i++ {
				runtime.Gosched()
				arrived(0)
			}
			over.Store(true)
			l.stop()
			end(iterations)
		}()
		for unit := uint64(1); unit < tasks; unit++ {
			unit := unit
			go func() {
				l.wait(unit)
				own := uint64(0)
				for !over.Load() {
					runtime.Gosched()
					arrived(unit)
					own++
				}
				end(own)
			}()
		}
		<-l.done
		base := nanoseconds(begin) - l.elapsed
		return sample{elapsed: l.elapsed, base: &base, units: tasks, peak: tasks, switches: l.switches, check: yields.Load()}
	}, nil
}

// Go has no park: a goroutine waits for another on a channel. The token is a word in memory as everywhere; an unbuffered
// channel of nothing wakes either side.
func pingPong() (slices, error) {
	return func(iterations uint64) sample {
		begin := time.Now()
		l := newLine(2)
		var token atomic.Uint64
		turn := [2]chan struct{}{make(chan struct{}), make(chan struct{})}
		pass := func(value, from uint64) {
			token.Store(value)
			turn[1-from] <- struct{}{}
			arrived(from)
		}
		// Each pass is one send, so one receive is one turn; the token says that it is the right one.
		wait := func(value, unit uint64) {
			<-turn[unit]
			arrived(unit)
			if token.Load() != value {
				panic("the token is not where the channel says it is")
			}
		}
		end := func() {
			if l.leave() {
				close(l.done)
			}
		}
		go func() {
			l.wait(0)
			for value := uint64(0); value < 2*iterations; value += 2 {
				pass(value+1, 0)
				wait(value+2, 0)
			}
			l.stop()
			end()
		}()
		go func() {
			l.wait(1)
			for value := uint64(1); value < 2*iterations; value += 2 {
				wait(value, 1)
				pass(value+1, 1)
			}
			end()
		}()
		<-l.done
		base := nanoseconds(begin) - l.elapsed
		return sample{elapsed: l.elapsed, base: &base, units: 2, peak: 2, switches: l.switches, check: token.Load()}
	}, nil
}

// touch uses so much of the goroutine's stack, a page at a time. A stack that is too small grows by moving.
//
//go:noinline
func touch(bytes uint64) byte {
	var page [4096]byte
	if bytes == 0 {
		return page[0]
	}
	page[bytes%4096] = 1
	rest := uint64(0)
	if bytes > 4096 {
		rest = bytes - 4096
	}
	return touch(rest) + page[bytes%4096]
}

var sink byte

// Go has no join: the one unit that is alive answers on a channel that all use in turn. Its stack's size cannot be chosen.
func spawnJoin(cell map[string]string) (slices, error) {
	touched, err := number(cell, "touched")
	if err != nil {
		return nil, err
	}
	answers := make(chan uint64)
	return func(iterations uint64) sample {
		started, sum := uint64(0), uint64(0)
		start := time.Now()
		for i := uint64(0); i < iterations; i++ {
			started++
			answer := 2 * started
			go func() {
				if touched > 0 {
					sink = touch(touched)
				}
				answers <- answer
			}()
			sum += <-answers
		}
		return sample{elapsed: nanoseconds(start), units: started, peak: 1, check: sum}
	}, nil
}

// Many are waited for with a WaitGroup; each leaves its answer in a place of its own.
func spawnBatch(cell map[string]string) (slices, error) {
	batch, err := number(cell, "batch")
	if err != nil {
		return nil, err
	}
	if batch == 0 {
		return nil, errors.New("parameter batch is 0: there is nobody to start")
	}
	answers := make([]uint64, batch)
	return func(iterations uint64) sample {
		var ended atomic.Uint64
		started, peak, sum := uint64(0), uint64(0), uint64(0)
		start := time.Now()
		for i := uint64(0); i < iterations; i++ {
			var all sync.WaitGroup
			all.Add(int(batch))
			for place := range answers {
				started++
				place, answer := place, 2*started
				go func() {
					answers[place] = answer
					ended.Add(1)
					all.Done()
				}()
				if live := started - ended.Load(); live > peak {
					peak = live
				}
			}
			all.Wait()
			for _, answer := range answers {
				sum += answer
			}
		}
		return sample{elapsed: nanoseconds(start), units: started, peak: peak, check: sum}
	}, nil
}

const fanout = 10

// census counts a node's children at once, before they start and after they have answered.
type census struct {
	started, live, peak atomic.Uint64
}

func (c *census) start(units uint64) {
	c.started.Add(units)
	live := c.live.Add(units)
	for peak := c.peak.Load(); live > peak; peak = c.peak.Load() {
		if c.peak.CompareAndSwap(peak, live) {
			return
		}
	}
}

func (c *census) end(units uint64) {
	c.live.Add(^(units - 1))
}

func tree(cell map[string]string) (slices, error) {
	depth, err := number(cell, "depth")
	if err != nil || depth < 1 || depth > 9 {
		return nil, errors.New("parameter depth is not between 1 and 9")
	}
	leaves := uint64(1)
	for level := uint64(0); level < depth; level++ {
		leaves *= fanout
	}
	return func(iterations uint64) sample {
		var c census
		sum := uint64(0)
		answer := make(chan uint64, 1)
		start := time.Now()
		for i := uint64(0); i < iterations; i++ {
			c.start(1)
			go node(&c, 0, leaves, answer)
			sum += <-answer
			c.end(1)
		}
		return sample{elapsed: nanoseconds(start), units: c.started.Load(), peak: c.peak.Load(), check: sum}
	}, nil
}

// node answers its parent on a channel with room for the ten children, so that none of them waits to end.
func node(c *census, first, leaves uint64, answer chan<- uint64) {
	if leaves == 1 {
		answer <- first
		return
	}
	below := leaves / fanout
	c.start(fanout)
	answers := make(chan uint64, fanout)
	for n := uint64(0); n < fanout; n++ {
		go node(c, first+n*below, below, answers)
	}
	sum := uint64(0)
	for n := 0; n < fanout; n++ {
		sum += <-answers
	}
	c.end(fanout)
	answer <- sum
}

// pump's channel is Go's own, with any number at either end.
func pump(cell map[string]string) (slices, error) {
	var values [3]uint64
	for i, key := range []string{"capacity", "producers", "consumers"} {
		var err error
		if values[i], err = number(cell, key); err != nil {
			return nil, err
		}
	}
	capacity, producers, consumers := values[0], values[1], values[2]
	if cell["implementation"] != "own" {
		return nil, errors.New("goroutines wait in Go's own channel; there is no other")
	}
	if producers == 0 || consumers == 0 {
		return nil, errors.New("a pump takes one producer and one consumer at least")
	}
	channel := make(chan uint64, capacity)
	return func(iterations uint64) sample {
		begin := time.Now()
		l := newLine(producers + consumers)
		var received atomic.Uint64
		end := func(own uint64) {
			received.Add(own)
			if l.leave() {
				l.stop()
				close(l.done)
			}
		}
		for unit := uint64(0); unit < consumers; unit++ {
			unit := unit
			go func() {
				l.wait(unit)
				own := uint64(0)
				for i := share(iterations, consumers, unit); i > 0; i-- {
					own += <-channel
					arrived(unit)
				}
				end(own)
			}()
		}
		for ordinal := uint64(0); ordinal < producers; ordinal++ {
			ordinal := ordinal
			go func() {
				unit := consumers + ordinal
				l.wait(unit)
				for message := ordinal + 1; message <= iterations; message += producers {
					channel <- 2 * message
					arrived(unit)
				}
				end(0)
			}()
		}
		<-l.done
		base := nanoseconds(begin) - l.elapsed
		units := producers + consumers
		return sample{elapsed: l.elapsed, base: &base, units: units, peak: units, switches: l.switches, check: received.Load()}
	}, nil
}

// share is how many of the messages are this one's, of so many.
func share(messages, of, ordinal uint64) uint64 {
	if ordinal < messages%of {
		return messages/of + 1
	}
	return messages / of
}

// parked grows a population that outlives its slices. What would wake each unit, a channel, is part of its bill, as the
// unparkers of the others are.
func parked(cell map[string]string) (slices, error) {
	most, err := number(cell, "units")
	if err != nil {
		return nil, err
	}
	wakers := make([]chan struct{}, most)
	var reported, awaited atomic.Uint64
	all := make(chan struct{}, 1)
	units := uint64(0)
	return func(to uint64) sample {
		start := time.Now()
		awaited.Store(to)
		grown := units < to
		for ; units < to; units++ {
			waker := make(chan struct{})
			wakers[units] = waker
			go func() {
				if reported.Add(1) == awaited.Load() {
					all <- struct{}{}
				}
				<-waker
			}()
		}
		if grown {
			<-all
		}
		elapsed := nanoseconds(start)
		// Stacks are the runtime's own book: what it has taken for them.
		var memory runtime.MemStats
		runtime.ReadMemStats(&memory)
		base := nanoseconds(start) - elapsed
		return sample{
			elapsed: elapsed, base: &base, units: to, peak: to, check: reported.Load(), parked: &to, stack: &memory.StackInuse,
		}
	}, nil
}
