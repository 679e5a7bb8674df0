package mqtt_test

import (
	"bytes"
	"io"
	"net"
	"testing"
	"time"

	"github.com/eclipse/paho.mqtt.golang/packets"

	"github.com/edged-io/edged/mqtt"
)

// feed returns a wire over a connection on which data arrives, and then its end.
func feed(t testing.TB, data []byte, maxPayload int) net.Conn {
	t.Helper()
	near, far := net.Pipe()
	w := mqtt.NewWire(near, maxPayload)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = far.Write(data) // the wire may end first
		_ = far.Close()
	}()
	t.Cleanup(func() {
		_ = w.Close()
		_ = far.Close()
		<-done
	})
	return w
}

func TestWire_Read(t *testing.T) {
	const limit = 1000
	var stream bytes.Buffer
	sizes := []int{0, 1, limit - 1, limit, limit + 1, 70_000, 3, 300_000, 5}
	for i, size := range sizes {
		p := packets.NewControlPacket(packets.Publish).(*packets.PublishPacket)
		p.TopicName, p.Payload = "a/b", bytes.Repeat([]byte("x"), size)
		if p.Qos = byte(i % 2); p.Qos > 0 {
			p.MessageID = uint16(i)
		}
		if err := p.Write(&stream); err != nil {
			t.Fatal(err)
		}
		if err := packets.NewControlPacket(packets.Pingresp).Write(&stream); err != nil {
			t.Fatal(err)
		}
	}
	w := feed(t, stream.Bytes(), limit)
	for i, size := range sizes {
		p, err := packets.ReadPacket(w)
		if err != nil {
			t.Fatal(err)
		}
		pub := p.(*packets.PublishPacket)
		want, left := size, 0
		if size > limit {
			want, left = 0, size
		}
		if len(pub.Payload) != want || pub.TopicName != "a/b" || pub.Qos > 0 && pub.MessageID != uint16(i) {
			t.Errorf("message %d: %d bytes on %q", i, len(pub.Payload), pub.TopicName)
		}
		if got := mqtt.LeftOut(w, uint64(i+1)); got != left {
			t.Errorf("message %d: %d bytes left out, want %d", i, got, left)
		}
		if _, err := packets.ReadPacket(w); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := packets.ReadPacket(w); err == nil {
		t.Error("no end")
	}
}

func TestWire_Read_RefusesNonsense(t *testing.T) {
	for name, data := range map[string][]byte{
		"LengthOfFiveBytes": {0x30, 0x80, 0x80, 0x80, 0x80, 0x01}, "HugeConnack": {0x20, 0xff, 0xff, 0x7f},
		"SubackOfTwo": {0x90, 4, 0, 1, 0, 0}, "TopicBeyondPacket": append([]byte{0x30, 0xd1, 0x0f, 0xff, 0xff}, make([]byte, 2000)...),
	} {
		t.Run(name, func(t *testing.T) {
			w := feed(t, data, 10)
			if _, err := io.Copy(io.Discard, w); err == nil {
				t.Error("accepted")
			}
		})
	}
}

// FuzzWire_Read hands arbitrary bytes to the library through the wire, which must shield it from what makes it panic.
func FuzzWire_Read(f *testing.F) {
	f.Add([]byte{0x30, 5, 0, 1, 'a', 'h', 'i'})
	f.Add([]byte{0x90, 3, 0, 1, 0x80, 0xd0, 0})
	f.Fuzz(func(t *testing.T, data []byte) {
		w := feed(t, data, 16)
		if err := w.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
			t.Fatal(err)
		}
		for {
			p, err := packets.ReadPacket(w)
			if err != nil {
				return
			}
			if pub, ok := p.(*packets.PublishPacket); ok && len(pub.Payload) > 16 {
				t.Fatalf("a payload of %d bytes", len(pub.Payload))
			}
		}
	})
}
