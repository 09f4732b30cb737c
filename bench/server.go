package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"

	goredis "github.com/redis/go-redis/v9"
)

// redisServer is a redis-server without persistence for one execution of the command.
type redisServer struct {
	addr   string
	client *goredis.Client
	cmd    *exec.Cmd
	dir    string
}

func startRedis(ctx context.Context) (*redisServer, error) {
	addr, err := freeAddress()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "taskgen-bench-")
	if err != nil {
		return nil, err
	}
	_, port, _ := net.SplitHostPort(addr)
	cmd := exec.Command("redis-server", "--port", port, "--dir", dir, "--save", "", "--appendonly", "no")
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start redis-server: %w", err)
	}
	s := &redisServer{addr: addr, client: goredis.NewClient(&goredis.Options{Addr: addr}), cmd: cmd, dir: dir}
	if err := s.await(ctx); err != nil {
		s.stop()
		return nil, fmt.Errorf("wait for redis-server: %w", err)
	}
	return s, nil
}

// freeAddress returns an address of this machine on which nothing listens.
func freeAddress() (string, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return listener.Addr().String(), listener.Close()
}

// await waits until the server answers, for five seconds at most.
func (s *redisServer) await(ctx context.Context) error {
	for deadline := time.Now().Add(5 * time.Second); ; {
		err := s.client.Ping(ctx).Err()
		if err == nil || time.Now().After(deadline) {
			return err
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func (s *redisServer) stop() {
	s.client.Close()
	_ = s.cmd.Process.Kill()
	_ = s.cmd.Wait() // killed
	os.RemoveAll(s.dir)
}

// usage is what the server has used since its start: CPU seconds, and the numbers of
// executed commands (including those in scripts) and scripts.
type usage struct{ cpu, commands, scripts float64 }

func (s *redisServer) usage(ctx context.Context) (usage, error) {
	info, err := s.client.InfoMap(ctx, "cpu", "stats", "commandstats").Result()
	if err != nil {
		return usage{}, err
	}
	var errs []error
	number := func(section, field string) float64 {
		v, err := strconv.ParseFloat(strings.TrimSpace(info[section][field]), 64)
		errs = append(errs, err)
		return v
	}
	u := usage{
		cpu:      number("CPU", "used_cpu_user") + number("CPU", "used_cpu_sys"),
		commands: number("Stats", "total_commands_processed"),
	}
	for _, name := range []string{"cmdstat_evalsha", "cmdstat_eval"} {
		calls, _, _ := strings.Cut(strings.TrimPrefix(info["Commandstats"][name], "calls="), ",")
		n, _ := strconv.ParseFloat(calls, 64) // missing means none
		u.scripts += n
	}
	return u, errors.Join(errs...)
}

// memory returns the size of the server's data in bytes, without client buffers,
// which differ between systems.
func (s *redisServer) memory(ctx context.Context) (float64, error) {
	info, err := s.client.InfoMap(ctx, "memory").Result()
	if err != nil {
		return 0, err
	}
	used, err := strconv.ParseFloat(strings.TrimSpace(info["Memory"]["used_memory"]), 64)
	if err != nil {
		return 0, err
	}
	clients, err := strconv.ParseFloat(strings.TrimSpace(info["Memory"]["mem_clients_normal"]), 64)
	return used - clients, err
}

// version returns the server's version.
func (s *redisServer) version(ctx context.Context) (string, error) {
	info, err := s.client.InfoMap(ctx, "server").Result()
	return strings.TrimSpace(info["Server"]["redis_version"]), err
}
