package subprocess

import (
	"flag"
	"fmt"
	"os"
	"time"

	"github.com/taskgen/taskgen/internal/subprocess/cgroup"
	"github.com/taskgen/taskgen/internal/subprocess/orphan"
)

type startRequest struct {
	argv  []string
	attr  *os.ProcAttr
	reply chan<- startReply
}

type startReply struct {
	proc *os.Process
	err  error
}

// start starts a process and its goroutines. It does not wait for the handshake.
func (p *Pool) start() (*child, error) {
	c := &child{
		pool:       p,
		info:       newStartInfo(),
		born:       time.Now(),
		oomKills:   oomKills(),
		parentPeak: peakSize(os.Getpid()),
		ready:      make(chan struct{}),
		exited:     make(chan struct{}),
		gone:       make(chan struct{}),
	}
	var pipes pipes
	defer pipes.closeTheirs()
	p.startReaper()
	var stdout, stderr *os.File
	err := pipes.open(&c.in, &c.out, &stdout, &stderr)
	if err == nil {
		c.group, err = p.groups.Add()
	}
	if err == nil {
		c.proc, err = p.startProcess(pipes.theirs, c.info, c.group)
	}
	if err != nil {
		pipes.closeOurs()
		c.group.Remove()
		return nil, err
	}
	c.pid = c.proc.Pid
	// SyscallConn of an open file returns no error.
	c.outConn, _ = c.out.SyscallConn()
	c.stdout, _ = newCapture(stdout, p.cfg.Logger, "stdout", c.pid)
	c.stderr, _ = newCapture(stderr, p.cfg.Logger, "stderr", c.pid)
	c.w = frameWriter{w: c.in, max: p.cfg.MaxFrame}
	c.frames = newFrameReader(c.out, maxHello)

	c.readers.Go(c.stdout.read)
	c.readers.Go(c.stderr.read)
	c.readers.Go(c.handshake)
	p.work.Go(c.wait)
	p.add(c)
	// The frame fits the empty pipe. If the write fails, no hello comes.
	_ = c.w.write(setup{maxFrame: p.cfg.MaxFrame, limits: p.cfg.limits(), schema: fingerprints(p.cfg.Schema)}.append(nil), nil)
	return c, nil
}

// startProcess starts the binary on the pool's starting thread.
func (p *Pool) startProcess(files []*os.File, info startInfo, group *cgroup.Group) (*os.Process, error) {
	attributes := processAttributes()
	group.StartIn(attributes)
	reply := make(chan startReply, 1)
	p.starts <- startRequest{
		argv:  arguments(),
		attr:  &os.ProcAttr{Files: files, Env: newEnvironment(&p.cfg).list(info.String()), Sys: attributes},
		reply: reply,
	}
	r := <-reply
	return r.proc, r.err
}

// InTest reports whether this process is a test binary that has reached TestMain. It
// does without testing.Testing, which would link package testing into every binary.
func InTest() bool { return flag.Lookup("test.run") != nil }

// arguments returns a child's arguments. A test binary without Serve in its TestMain
// would run its tests; -test.run prevents that.
func arguments() []string {
	argv := []string{os.Args[0]}
	if InTest() {
		argv = append(argv, "-test.run=^$")
	}
	return argv
}

// startProcesses starts all processes of the pool on one thread, which lives as long
// as they do. The kernel sends the parent-death signal when the thread that started a
// process ends, not when the parent process does.
func (p *Pool) startProcesses() {
	orphan.OffFirstThread(func() {
		for r := range p.starts {
			proc, err := startProcess(r.argv, r.attr)
			r.reply <- startReply{proc, err}
		}
	})
}

// startReaper starts to wait for adopted processes if this process adopts any.
func (p *Pool) startReaper() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.orphans == nil && orphan.Adopts() {
		p.orphans = orphan.Start(func() {})
	}
}

func startProcess(argv []string, attr *os.ProcAttr) (*os.Process, error) {
	path, err := executable()
	if err != nil {
		return nil, fmt.Errorf("find own binary: %w", err)
	}
	return os.StartProcess(path, argv, attr)
}

// pipes are the files of a child's standard streams and of descriptors 3 and 4.
type pipes struct{ ours, theirs []*os.File }

func (p *pipes) open(in, out, stdout, stderr **os.File) error {
	null, err := os.Open(os.DevNull)
	if err != nil {
		return fmt.Errorf("open standard input: %w", err)
	}
	p.theirs = []*os.File{null}
	for _, ours := range []**os.File{stdout, stderr, in, out} {
		r, w, err := os.Pipe()
		if err != nil {
			return fmt.Errorf("open pipe: %w", err)
		}
		if ours == in {
			r, w = w, r
		}
		*ours = r
		p.ours, p.theirs = append(p.ours, r), append(p.theirs, w)
	}
	return nil
}

func (p *pipes) closeOurs() {
	for _, f := range p.ours {
		_ = f.Close() // closing a pipe loses nothing
	}
}

func (p *pipes) closeTheirs() {
	for _, f := range p.theirs {
		_ = f.Close()
	}
}
