package redis_test

import (
	"context"
	"fmt"
	"log/slog"

	goredis "github.com/redis/go-redis/v9"

	"github.com/taskgen/taskgen/redis"
)

// Each enqueue waits until a replica has the run too.
func ExampleOpen() {
	b, err := redis.Open(context.Background(), "redis://:password@127.0.0.1:6379/0", redis.Config{
		Prefix:      "shop",
		Acknowledge: redis.Replica,
		Logger:      slog.Default(),
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer b.Close()
}

// New uses a client that the program has, with its TLS and dialer.
func ExampleNew() {
	client := goredis.NewClient(&goredis.Options{Addr: "127.0.0.1:6379"})
	defer client.Close()
	b, err := redis.New(client, redis.Config{Prefix: "shop"})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer b.Close()
	durability, err := b.Durability(context.Background())
	fmt.Println(durability, err)
}
