package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"

	commonv1 "github.com/dapr/dapr/pkg/proto/common/v1"
	runtimev1 "github.com/dapr/dapr/pkg/proto/runtime/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

// keys is how many different keys the load writes.
const keys = 1000

type opKind int

const (
	opGet opKind = iota
	opSet
	opPublish
)

// target is a server on a Unix socket and the protocol to speak with it.
type target struct {
	socket, protocol string
}

// op returns a worker's operation, on a connection of its own.
func (t *target) op(kind opKind, worker int) (op func() error, done func(), err error) {
	if t.protocol == "grpc" {
		return t.grpcOp(kind, worker)
	}
	return t.httpOp(kind, worker)
}

var value = bytes.Repeat([]byte("v"), valueSize-2)

func (t *target) httpOp(kind opKind, worker int) (func() error, func(), error) {
	conn, err := net.Dial("unix", t.socket)
	if err != nil {
		return nil, nil, err
	}
	r := bufio.NewReader(conn)
	n := worker * 7919
	requests := make([][]byte, 0, keys)
	for range keys {
		n++
		requests = append(requests, httpRequest(kind, worker, n%keys))
	}
	i := 0
	return func() error {
		i++
		if _, err := conn.Write(requests[i%keys]); err != nil {
			return err
		}
		return readAnswer(r)
	}, func() { conn.Close() }, nil
}

func httpRequest(kind opKind, worker, key int) []byte {
	request := func(method, path, body string) []byte {
		return fmt.Appendf(nil, "%s %s HTTP/1.1\r\nHost: edged\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", method, path, len(body), body)
	}
	switch kind {
	case opSet:
		return request("POST", "/v1.0/state/"+store, fmt.Sprintf(`[{"key":"k%d","value":"%s"}]`, key, value))
	case opPublish:
		return request("POST", "/v1.0/publish/pubsub/"+topic(worker), fmt.Sprintf(`{"v":"%s"}`, value[:valueSize-10]))
	}
	return fmt.Appendf(nil, "GET /v1.0/state/%s/k%d HTTP/1.1\r\nHost: edged\r\n\r\n", store, key)
}

// topics is how many topics the events go to; deliveries are in order within each.
const topics = 8

func topic(worker int) string { return "bench" + strconv.Itoa(worker%topics) }

// readAnswer reads an HTTP/1.1 answer with a known length and wants success.
func readAnswer(r *bufio.Reader) error {
	length, first := 0, true
	for {
		line, err := r.ReadSlice('\n')
		if err != nil {
			return err
		}
		switch {
		case first:
			if len(line) < 12 || line[9] != '2' {
				return fmt.Errorf("answer: %s", bytes.TrimSpace(line))
			}
			first = false
		case len(line) <= 2:
			_, err := io.CopyN(io.Discard, r, int64(length))
			return err
		case len(line) > 15 && bytes.EqualFold(line[:15], []byte("content-length:")):
			if length, err = strconv.Atoi(string(bytes.TrimSpace(line[15:]))); err != nil {
				return err
			}
		case bytes.EqualFold(line, []byte("transfer-encoding: chunked\r\n")):
			return errors.New("a chunked answer")
		}
	}
}

func (t *target) grpcOp(kind opKind, worker int) (func() error, func(), error) {
	conn, err := grpc.NewClient("unix://"+t.socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return nil, nil, err
	}
	client, ctx, i := runtimev1.NewDaprClient(conn), context.Background(), worker*7919
	return func() (err error) {
		i++
		key := "k" + strconv.Itoa(i%keys)
		switch kind {
		case opGet:
			_, err = client.GetState(ctx, &runtimev1.GetStateRequest{StoreName: store, Key: key})
		case opSet:
			_, err = client.SaveState(ctx, &runtimev1.SaveStateRequest{StoreName: store, States: []*commonv1.StateItem{{Key: key, Value: value}}})
		case opPublish:
			_, err = client.PublishEvent(ctx, &runtimev1.PublishEventRequest{
				PubsubName: "pubsub", Topic: topic(worker), Data: value, DataContentType: "text/plain",
			})
		}
		return err
	}, func() { conn.Close() }, nil
}

func (b *bench) load(_ context.Context, protocol string, c int, kind opKind) (result, error) {
	t := &target{socket: b.edged.socket("client"), protocol: protocol}
	before := b.edged.usage()
	r, err := hammer(c, b.length, func(i int) (func() error, func(), error) { return t.op(kind, i) })
	r.before, r.after = before, b.edged.usage()
	return r, err
}
