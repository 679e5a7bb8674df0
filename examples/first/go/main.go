// Command go is a first application on edged with the official Dapr SDK for Go: it receives orders and keeps the latest
// in state. Run it with: edged run --app-id orders-go --app-port 6001 -- go run ./first/go
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log"
	"net/http"
	"os"

	dapr "github.com/dapr/go-sdk/client"
	"github.com/dapr/go-sdk/service/common"
	daprd "github.com/dapr/go-sdk/service/http"
)

type order struct {
	ID   int    `json:"id"`
	Item string `json:"item"`
}

func main() {
	client, err := dapr.NewClientWithAddress("unix://" + os.Getenv("EDGED_SOCKET"))
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()

	service := daprd.NewService("127.0.0.1:" + os.Getenv("APP_PORT"))
	subscription := &common.Subscription{PubsubName: "pubsub", Topic: "orders", Route: "/orders"}
	err = service.AddTopicEventHandler(subscription, func(ctx context.Context, e *common.TopicEvent) (retry bool, err error) {
		var o order
		if err := json.Unmarshal(e.RawData, &o); err != nil {
			return false, err // never again: it will not become an order
		}
		if err := client.SaveState(ctx, "statestore", "latest", e.RawData, nil); err != nil {
			return true, err // edged delivers it again
		}
		fmt.Printf("go: order %d, %s\n", o.ID, o.Item)
		return false, nil
	})
	if err != nil {
		log.Fatal(err)
	}
	if err := service.Start(); err != nil && err != http.ErrServerClosed {
		log.Fatal(err)
	}
}
