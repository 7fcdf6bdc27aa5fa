// Command controlplane runs etcd, kube-apiserver and kube-controller-manager in one process, for tests.
//
//	controlplane ETCD_DATA_DIR ETCD_ADDRESS API_ADDRESS -- KUBE_APISERVER_FLAGS... -- KUBE_CONTROLLER_MANAGER_FLAGS...
//
// The addresses, host:port, are those of etcd's clients and of kube-apiserver, whose flags get them too. That stops on
// SIGTERM as it always does, and takes the process along. Whatever ends before that ends the process with status 1.
package main

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"slices"
	"time"

	"github.com/spf13/cobra"
	"go.etcd.io/etcd/server/v3/embed"
	logs "k8s.io/component-base/logs/api/v1"
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
	controllers "k8s.io/kubernetes/cmd/kube-controller-manager/app"
)

func main() {
	first := slices.Index(os.Args, "--")
	second := first + 1 + slices.Index(os.Args[first+1:], "--")
	if first != 4 || second <= first {
		fail(errors.New("usage: controlplane ETCD_DATA_DIR ETCD_ADDRESS API_ADDRESS -- KUBE_APISERVER_FLAGS -- KUBE_CONTROLLER_MANAGER_FLAGS"))
	}
	etcd, err := startEtcd(os.Args[1], os.Args[2])
	if err != nil {
		fail(fmt.Errorf("etcd: %w", err))
	}
	host, port, err := net.SplitHostPort(os.Args[3])
	if err != nil {
		fail(err)
	}
	flags := append(slices.Clone(os.Args[first+1:second]),
		"--etcd-servers=http://"+os.Args[2], "--bind-address="+host, "--secure-port="+port)
	// Both share the logging and the feature gates of the process: all flags are declared before any is read, and the
	// second to run finds logging as it wants it.
	manager, server := controllers.NewControllerManagerCommand(), apiserver.NewAPIServerCommand()
	logs.ReapplyHandling = logs.ReapplyHandlingIgnoreUnchanged
	go func() {
		waitHealthy(os.Args[3])
		fail(execute(manager, os.Args[second+1:]))
	}()
	if err := execute(server, flags); err != nil {
		fail(err)
	}
	etcd.Close()
}

func startEtcd(dir, address string) (*embed.Etcd, error) {
	clients := []url.URL{{Scheme: "http", Host: address}}
	peers := []url.URL{{Scheme: "http", Host: "127.0.0.1:0"}} // there are none
	config := embed.NewConfig()
	config.Dir, config.LogLevel = dir, "error"
	config.ListenClientUrls, config.AdvertiseClientUrls = clients, clients
	config.ListenPeerUrls, config.AdvertisePeerUrls = peers, peers
	config.InitialCluster = config.InitialClusterFromName(config.Name)
	config.UnsafeNoFsync = true // nothing here outlives a crash of the machine
	etcd, err := embed.StartEtcd(config)
	if err != nil {
		return nil, err
	}
	select {
	case <-etcd.Server.ReadyNotify():
		return etcd, nil
	case <-time.After(time.Minute):
		return nil, errors.New("not ready after a minute")
	}
}

// waitHealthy waits as long as it takes: kube-controller-manager itself gives up after ten seconds, which a machine that
// does something else as well may need for the first start.
func waitHealthy(address string) {
	transport := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}} // it is this process
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport, Timeout: 5 * time.Second}
	for {
		if response, err := client.Get("https://" + address + "/healthz"); err == nil {
			response.Body.Close()
			if response.StatusCode == http.StatusOK {
				return
			}
		}
		time.Sleep(50 * time.Millisecond)
	}
}

func execute(command *cobra.Command, flags []string) error {
	command.SetArgs(flags)
	if err := command.Execute(); err != nil {
		return fmt.Errorf("%s: %w", command.Name(), err)
	}
	return nil
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, "controlplane:", err)
	os.Exit(1)
}
