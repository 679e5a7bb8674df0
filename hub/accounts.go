package hub

import (
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"os"
	"regexp"
	"sync"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nkeys"

	"github.com/edged-io/edged/edge/resource"
)

// Accounts is the credentials file: who may connect, and as what. Changes take effect on SIGHUP: clients whose
// credentials are gone or changed are disconnected.
type Accounts struct {
	Devices  []Account `yaml:"devices"`  // see their own events and keys only
	Services []Account `yaml:"services"` // cloud applications and operators: see and change everything
}

// Account is one device or service, with exactly one kind of credential.
type Account struct {
	ID       string `yaml:"id"`       // a device's id as in its edged.yaml: lower case, no dots
	Token    string `yaml:"token"`    // or
	User     string `yaml:"user"`     // user and password; MQTT clients need this kind
	Password string `yaml:"password"` // or
	NKey     string `yaml:"nkey"`     // the public key (U...) of an Ed25519 pair; the device keeps the seed
}

var _ resource.Validator = Accounts{}

// Validate reports what is wrong with the file, all of it.
func (a Accounts) Validate(report func(field, value, problem, hint string)) {
	seen := map[string]string{} // credential -> field
	validID := regexp.MustCompile(`^[a-z0-9][a-z0-9_-]{0,62}$`).MatchString
	check := func(field string, acc Account) {
		if !validID(acc.ID) {
			report(field+".id", acc.ID, "is not an id", "lower-case letters, digits, - and _")
		}
		kinds := 0
		for _, set := range []bool{acc.Token != "", acc.User != "" || acc.Password != "", acc.NKey != ""} {
			if set {
				kinds++
			}
		}
		if kinds != 1 || (acc.User == "") != (acc.Password == "") {
			report(field, "", "needs exactly one credential", "token, user and password, or nkey")
		}
		if acc.NKey != "" && !nkeys.IsValidPublicUserKey(acc.NKey) {
			report(field+".nkey", acc.NKey, "is not the public key of a user", "it begins with U; the seed (SU...) stays on the device")
		}
		for _, key := range []string{"id " + acc.ID, "token " + acc.Token, "user " + acc.User, "nkey " + acc.NKey} {
			if key[len(key)-1] == ' ' {
				continue
			}
			if other, twice := seen[key]; twice {
				report(field, "", "repeats a credential or id of "+other, "each must be unique")
			}
			seen[key] = field
		}
	}
	for i, acc := range a.Devices {
		check(fmt.Sprintf("devices[%d]", i), acc)
	}
	for i, acc := range a.Services {
		check(fmt.Sprintf("services[%d]", i), acc)
	}
}

// ReadAccounts reads a credentials file and reports all its faults.
func ReadAccounts(file string) (Accounts, error) {
	var a Accounts
	data, err := os.ReadFile(file)
	if err != nil {
		return a, fmt.Errorf("read credentials: %w", err)
	}
	return a, resource.DecodeStrict(file, data, &a).Err()
}

// DevicePermissions limits a device to its own subjects: its events, its keys, its cursors, its replies. Everything that
// sync sends is in here; it is exported so that the same can be set in one's own NATS cluster.
func DevicePermissions(device, stream, bucket string) *server.Permissions {
	kv := "KV_" + bucket
	events, keys, cursors := "ev."+device+".>", "$KV."+bucket+"."+device+".>", "$KV."+bucket+"._cur."+device+".>"
	return &server.Permissions{
		Publish: &server.SubjectPermission{Allow: []string{
			events, keys, cursors,
			"$JS.API.STREAM.INFO." + stream,
			"$JS.API.STREAM.INFO." + kv,
			"$JS.API.DIRECT.GET." + stream + "." + events,
			"$JS.API.DIRECT.GET." + kv + "." + keys,
			"$JS.API.DIRECT.GET." + kv + "." + cursors,
			"$JS.API.CONSUMER.CREATE." + stream + "." + device + "." + events,
			"$JS.API.CONSUMER.MSG.NEXT." + stream + "." + device,
			"$JS.API.CONSUMER.DELETE." + stream + "." + device,
			"$JS.API.CONSUMER.CREATE." + kv + "." + device + "." + keys,
			"$JS.API.CONSUMER.CREATE." + kv + "." + device + "=scan." + keys,
			"$JS.API.CONSUMER.MSG.NEXT." + kv + "." + device,
			"$JS.API.CONSUMER.MSG.NEXT." + kv + "." + device + "=scan",
			"$JS.API.CONSUMER.DELETE." + kv + "." + device,
			"$JS.API.CONSUMER.DELETE." + kv + "." + device + "=scan",
		}},
		Subscribe: &server.SubjectPermission{Allow: []string{"_INBOX_" + device + ".>"}},
	}
}

// identity is who a connection turned out to be.
type identity struct {
	name   string
	device bool
	secret [32]byte // changes when the credential changes
}

// keyring authenticates connections. It is safe for concurrent use.
type keyring struct {
	stream, bucket string
	internal       string // the hub's own token
	open           bool

	mu       sync.RWMutex
	accounts Accounts
	online   map[uint64]identity
}

var _ server.Authentication = (*keyring)(nil)

// Check implements server.Authentication.
func (k *keyring) Check(c server.ClientAuthentication) bool {
	opts := c.GetOpts()
	if equal(opts.Token, k.internal) {
		c.RegisterUser(&server.User{Username: "hub"})
		return true
	}
	if k.open {
		c.RegisterUser(&server.User{Username: opts.Username})
		return true
	}
	id, ok := k.find(opts, c.GetNonce())
	if !ok {
		return false
	}
	user := &server.User{Username: id.name}
	if id.device {
		user.Permissions = DevicePermissions(id.name, k.stream, k.bucket)
	}
	c.RegisterUser(user)
	k.mu.Lock()
	defer k.mu.Unlock()
	k.online[c.GetID()] = id
	return true
}

func (k *keyring) find(opts *server.ClientOpts, nonce []byte) (identity, bool) {
	k.mu.RLock()
	defer k.mu.RUnlock()
	for i, list := range [][]Account{k.accounts.Devices, k.accounts.Services} {
		for _, acc := range list {
			if acc.accepts(opts, nonce) {
				return identity{name: acc.ID, device: i == 0, secret: acc.fingerprint()}, true
			}
		}
	}
	return identity{}, false
}

// accepts compares in constant time.
func (a Account) accepts(opts *server.ClientOpts, nonce []byte) bool {
	switch {
	case a.Token != "":
		return equal(opts.Token, a.Token)
	case a.User != "":
		return equal(opts.Username, a.User) && equal(opts.Password, a.Password)
	case a.NKey != "":
		return a.NKey == opts.Nkey && signed(a.NKey, nonce, opts.Sig)
	}
	return false
}

func (a Account) fingerprint() [32]byte {
	return sha256.Sum256([]byte(a.ID + "\x00" + a.Token + "\x00" + a.User + "\x00" + a.Password + "\x00" + a.NKey))
}

func equal(given, want string) bool {
	g, w := sha256.Sum256([]byte(given)), sha256.Sum256([]byte(want))
	return want != "" && subtle.ConstantTimeCompare(g[:], w[:]) == 1
}

// replace sets new accounts and returns the connections that no longer have any.
func (k *keyring) replace(a Accounts) []uint64 {
	valid := map[identity]bool{}
	for i, list := range [][]Account{a.Devices, a.Services} {
		for _, acc := range list {
			valid[identity{name: acc.ID, device: i == 0, secret: acc.fingerprint()}] = true
		}
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.accounts = a
	var gone []uint64
	for id, who := range k.online {
		if !valid[who] {
			gone = append(gone, id)
			delete(k.online, id)
		}
	}
	return gone
}

// prune forgets connections that are closed.
func (k *keyring) prune(alive func(id uint64) bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for id := range k.online {
		if !alive(id) {
			delete(k.online, id)
		}
	}
}
