package entrypoint

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write generated documents anew")

// clearEnvironment unsets every variable of Config for the length of a test.
func clearEnvironment(t *testing.T) {
	t.Helper()
	for field := range reflect.TypeFor[Config]().Fields() {
		name := field.Tag.Get("envconfig")
		t.Setenv(name, "") // restores the value afterwards
		os.Unsetenv(name)
	}
}

func setAll(t *testing.T, pairs ...string) {
	t.Helper()
	clearEnvironment(t)
	for _, pair := range pairs {
		name, value, _ := strings.Cut(pair, "=")
		t.Setenv(name, value)
	}
}

func TestDefaultsAreThoseOfTheTemplates(t *testing.T) {
	// Templates set what they have no value for to the empty string.
	setAll(t, "IMS_ACTION=customize", "IMAGE_ROOT_PARENT=", "KERNEL_FILENAME=", "REMOTE_BUILD_NODE=",
		"BUILD_ARCH=", "REMOTE_HEARTBEAT_TIMEOUT_COUNT=", "KIWI_RECIPE_NAME=cos")
	cfg, err := loadConfig()
	if err != nil {
		t.Fatal(err)
	}
	for _, check := range []struct{ name, got, want string }{
		{"IMAGE_ROOT_PARENT", cfg.ImageRootParent, "/mnt/image"},
		{"BUILD_ARCH", cfg.Arch, "x86_64"},
		{"KERNEL_FILENAME", cfg.KernelFilename, "vmlinuz"},
		{"INITRD_FILENAME", cfg.InitrdFilename, "initrd"},
		{"IMAGE_ROOT_ARCHIVE_NAME", cfg.ImageName, "cos"},
		{"IMS_URL", cfg.IMSURL, "https://api-gw-service-nmn.local/apis/ims"},
		{"OAUTH_CONFIG_DIR", cfg.OAuthConfigDir, "/etc/admin-client-auth"},
		{"REMOTE_HEARTBEAT_TIMEOUT_COUNT", fmt.Sprint(cfg.RemoteHeartbeatCount), "12"},
		{"IMS_PYTHON_HELPER_TIMEOUT", fmt.Sprint(cfg.HelperTimeout), "720"},
		{"LOG_LEVEL", cfg.LogLevel, "INFO"},
		{"BUILDENV_ROLE", cfg.Role, "environment"},
	} {
		if check.got != check.want {
			t.Errorf("%s = %q, want %q", check.name, check.got, check.want)
		}
	}
}

func TestKernelName(t *testing.T) {
	for _, test := range []struct{ arch, given, want string }{
		{"x86_64", "", "vmlinuz"},
		{"x86_64", "bzImage", "bzImage"},
		{"aarch64", "", "Image"},
		{"aarch64", "vmlinuz", "Image"},
		{"aarch64", "vmlinux", "vmlinux"},
	} {
		setAll(t, "BUILD_ARCH="+test.arch, "KERNEL_FILENAME="+test.given)
		if cfg, err := loadConfig(); err != nil || cfg.KernelFilename != test.want {
			t.Errorf("%s, %q: %q, %v; want %q", test.arch, test.given, cfg.KernelFilename, err, test.want)
		}
	}
}

func TestRole(t *testing.T) {
	for _, test := range []struct {
		env  []string
		want string
	}{
		{nil, "environment"},
		{[]string{"ARTIFACT_STORE=file:///srv", "IMAGE_ROOT_ARCHIVE_NAME=a"}, "standalone"},
		{[]string{"ARTIFACT_STORE=file:///srv", "BUILDENV_ROLE=environment"}, "environment"},
	} {
		setAll(t, test.env...)
		if cfg, err := loadConfig(); err != nil || cfg.Role != test.want {
			t.Errorf("%q: role %q, %v; want %q", test.env, cfg.Role, err, test.want)
		}
	}
}

func TestJailNeedsTheExactWord(t *testing.T) {
	for value, want := range map[string]bool{"True": true, "true": false, "TRUE": false, "1": false, "False": false, "": false} {
		setAll(t, "SSH_JAIL="+value)
		cfg, err := loadConfig()
		if err != nil || cfg.jailed() != want {
			t.Errorf("SSH_JAIL=%s: jailed %t, %v", value, cfg.jailed(), err)
		}
		if warned := len(cfg.warnings()) > 0; warned != (value == "true" || value == "TRUE") {
			t.Errorf("SSH_JAIL=%s: warnings %q", value, cfg.warnings())
		}
	}
}

func TestAllProblemsAreReportedAtOnce(t *testing.T) {
	setAll(t, "BUILD_ARCH=sparc", "REMOTE_HEARTBEAT_TIMEOUT_COUNT=often", "IMS_PYTHON_HELPER_TIMEOUT=soon",
		"LOG_FORMAT=xml", "LOG_LEVEL=LOUD", "BUILDENV_ROLE=standalone", "ARTIFACT_STORE=ftp://host/dir")
	_, err := loadConfig()
	if err == nil {
		t.Fatal("no error")
	}
	for _, name := range []string{"BUILD_ARCH", "REMOTE_HEARTBEAT_TIMEOUT_COUNT", "IMS_PYTHON_HELPER_TIMEOUT",
		"LOG_FORMAT", "LOG_LEVEL", "ARTIFACT_STORE", "IMAGE_ROOT_ARCHIVE_NAME"} {
		if !strings.Contains(err.Error(), name) {
			t.Errorf("%s is not named in: %v", name, err)
		}
	}
}

func TestSecretsAreNotLogged(t *testing.T) {
	const secret = "correct horse battery staple"
	setAll(t, "S3_SECRET_KEY="+secret, "S3_ACCESS_KEY="+secret, "OAUTH_CLIENT_SECRET="+secret, "LOG_FORMAT=json", "IMS_JOB_ID=j1")
	cfg, err := loadConfig()
	if err != nil && !strings.Contains(err.Error(), "ARTIFACT_STORE") {
		t.Fatal(err)
	}
	var out bytes.Buffer
	newLogger(&out, cfg).Info("configuration", "config", cfg)
	if strings.Contains(out.String(), secret) {
		t.Errorf("a secret is in the log: %s", &out)
	}
	var line struct {
		Job    string
		Config map[string]any
	}
	if err := json.Unmarshal(out.Bytes(), &line); err != nil {
		t.Fatalf("not one line of JSON: %v: %s", err, &out)
	}
	if line.Job != "j1" || line.Config["IMAGE_ROOT_PARENT"] != "/mnt/image" || line.Config["S3_SECRET_KEY"] != "**redacted**" {
		t.Errorf("line: %+v", line)
	}
}

// The variables of the contract, all of which a configuration must know.
var contract = strings.Fields(`IMS_ACTION IMAGE_ROOT_PARENT SSHD_OPTIONS SSHD_CONFIG_FILE IMS_JOB_ID SSH_JAIL
	JOB_ENABLE_DKMS BUILD_ARCH ENABLE_DEBUG CUSTOMIZATION_SCRIPT REMOTE_BUILD_NODE REMOTE_HEARTBEAT_TIMEOUT_COUNT
	IMAGE_ROOT_ARCHIVE_NAME KIWI_RECIPE_NAME KERNEL_FILENAME INITRD_FILENAME KERNEL_PARAMETERS_FILENAME
	DOWNLOAD_MD5SUM IMS_URL CA_CERT OAUTH_CONFIG_DIR OAUTH_CLIENT_ID OAUTH_CLIENT_SECRET OAUTH_CLIENT_ENDPOINT
	S3_ENDPOINT S3_HOST S3_ACCESS_KEY S3_SECRET_KEY S3_BUCKET S3_SSL_VALIDATE S3_SSL_VERIFY
	IMS_PYTHON_HELPER_TIMEOUT LOG_LEVEL`)

func TestEveryVariableIsKnownAndExplained(t *testing.T) {
	var known []string
	for field := range reflect.TypeFor[Config]().Fields() {
		known = append(known, field.Tag.Get("envconfig"))
		if field.Tag.Get("desc") == "" {
			t.Errorf("%s has no description", field.Name)
		}
	}
	for _, name := range contract {
		if !slices.Contains(known, name) {
			t.Errorf("%s is unknown", name)
		}
	}
}

const tableFile = "../docs/configuration.md"

// configurationTable is docs/configuration.md.
func configurationTable() string {
	var b strings.Builder
	b.WriteString("# Configuration\n\nThe environment variables of a job. An empty variable counts as unset, except where its\n" +
		"meaning says otherwise. Those of the image service, of OAuth, of S3 (but for the bucket) and of remote build nodes are read and\n" +
		"shown, and have no effect yet. This file is generated from `entrypoint.Config`: `make docs`.\n\n" +
		"| variable | default | meaning |\n|---|---|---|\n")
	for field := range reflect.TypeFor[Config]().Fields() {
		fallback := field.Tag.Get("default")
		if fallback != "" {
			fallback = "`" + fallback + "`"
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s |\n", field.Tag.Get("envconfig"), fallback,
			strings.ReplaceAll(field.Tag.Get("desc"), "|", `\|`))
	}
	return b.String()
}

func TestConfigurationTable(t *testing.T) {
	want := configurationTable()
	if *update {
		if err := os.WriteFile(tableFile, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(tableFile)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != want {
		t.Errorf("%s is out of date: make docs", tableFile)
	}
}
