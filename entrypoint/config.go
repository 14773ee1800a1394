package entrypoint

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"reflect"
	"slices"
	"strings"

	"github.com/kelseyhightower/envconfig"

	"buildenv/agent"
	"buildenv/artifacts"
	"buildenv/artifacts/source"
	"buildenv/artifacts/squashfs"
	"buildenv/internal/redact"
)

// Config is everything that a job is told through the environment. Names and
// values are fixed by the pod templates of the image service; the variables
// below "buildenv's own" are ours. An empty variable counts as unset unless its
// field is tagged empty:"keep": templates set variables that they have no value
// for to the empty string.
//
// docs/configuration.md is generated from the tags.
type Config struct {
	Action          agent.Action `envconfig:"IMS_ACTION" desc:"what the job does: create or customize; for anything else there is no shell"`
	ImageRootParent string       `envconfig:"IMAGE_ROOT_PARENT" default:"/mnt/image" desc:"folder of the image root and of the marker files; a command-line argument wins over it"`
	SSHDOptions     string       `envconfig:"SSHD_OPTIONS" desc:"options of the SSH server with sshd's letters, split at blanks, quotes have no meaning; nothing is added to them"`
	SSHDConfigFile  string       `envconfig:"SSHD_CONFIG_FILE" desc:"sshd_config to use when SSHD_OPTIONS has no -f; it is read, never changed"`
	JobID           string       `envconfig:"IMS_JOB_ID" desc:"the job's id (a UUID)"`
	SSHJail         string       `envconfig:"SSH_JAIL" default:"False" desc:"exactly True: SSH users are jailed in the image root"`
	EnableDKMS      string       `envconfig:"JOB_ENABLE_DKMS" default:"False" desc:"true in any case: sysfs, proc and devtmpfs are mounted inside the image root"`
	Arch            string       `envconfig:"BUILD_ARCH" default:"x86_64" desc:"the image's architecture: x86_64 or aarch64"`
	EnableDebug     string       `envconfig:"ENABLE_DEBUG" default:"False" desc:"true in any case: a failed create job opens a debug shell"`
	Script          string       `envconfig:"CUSTOMIZATION_SCRIPT" desc:"script in the build environment, run once the SSH server is up; a missing or empty file is skipped"`

	RemoteBuildNode      string `envconfig:"REMOTE_BUILD_NODE" desc:"host that the job is sent to; empty: this one"`
	RemoteHeartbeatCount int    `envconfig:"REMOTE_HEARTBEAT_TIMEOUT_COUNT" default:"12" desc:"failed heartbeats, 5 seconds apart, after which a remote job counts as dead"`

	ImageName      string        `envconfig:"IMAGE_ROOT_ARCHIVE_NAME" desc:"name of the new image; default KIWI_RECIPE_NAME"`
	RecipeName     string        `envconfig:"KIWI_RECIPE_NAME" desc:"name of the recipe that a create job has built"`
	KernelFilename string        `envconfig:"KERNEL_FILENAME" desc:"kernel in the image root's boot folder; default vmlinuz, on aarch64 Image, which vmlinuz also means there"`
	InitrdFilename string        `envconfig:"INITRD_FILENAME" default:"initrd" desc:"initrd in the image root's boot folder"`
	ParametersName string        `envconfig:"KERNEL_PARAMETERS_FILENAME" desc:"kernel parameters in the image root's boot folder; stored when it is named and there"`
	DownloadMD5    string        `envconfig:"DOWNLOAD_MD5SUM" desc:"expected MD5 (hex) of a downloaded image; empty: not checked"`
	IMSURL         string        `envconfig:"IMS_URL" default:"https://api-gw-service-nmn.local/apis/ims" desc:"base URL of the image service"`
	CACert         string        `envconfig:"CA_CERT" desc:"PEM file of authorities that TLS to the image service and to the server of a download is verified with, besides the system's"`
	OAuthConfigDir string        `envconfig:"OAUTH_CONFIG_DIR" default:"/etc/admin-client-auth" desc:"folder with the files client-id, client-secret and endpoint"`
	OAuthClientID  string        `envconfig:"OAUTH_CLIENT_ID" desc:"OAuth2 client id; wins over the file"`
	OAuthSecret    redact.Secret `envconfig:"OAUTH_CLIENT_SECRET" desc:"OAuth2 client secret; wins over the file"`
	OAuthEndpoint  string        `envconfig:"OAUTH_CLIENT_ENDPOINT" desc:"OAuth2 token endpoint; wins over the file"`
	S3Endpoint     string        `envconfig:"S3_ENDPOINT" desc:"S3 server that artifacts go to"`
	S3Host         string        `envconfig:"S3_HOST" desc:"the same, under its other name; S3_ENDPOINT wins"`
	S3AccessKey    redact.Secret `envconfig:"S3_ACCESS_KEY" desc:"S3 access key"`
	S3SecretKey    redact.Secret `envconfig:"S3_SECRET_KEY" desc:"S3 secret key"`
	S3Bucket       string        `envconfig:"S3_BUCKET" default:"boot-images" desc:"bucket of the artifacts; in a local store a folder"`
	S3Validate     *string       `envconfig:"S3_SSL_VALIDATE" empty:"keep" desc:"false, off, no, f, 0 or empty: S3's certificate is not verified; true or unset: it is; else the path of a CA bundle"`
	S3Verify       *string       `envconfig:"S3_SSL_VERIFY" empty:"keep" desc:"the same, under its other name; S3_SSL_VALIDATE wins"`
	HelperTimeout  int           `envconfig:"IMS_PYTHON_HELPER_TIMEOUT" default:"720" desc:"seconds that registering may take"`
	KeepSource     string        `envconfig:"KEEP_SOURCE" default:"auto" desc:"buildenv's own: auto, always or never: whether the squashfs that the image root is unpacked from is kept beside it, so that packaging compresses only what has changed; auto: if it takes no space, or there is plenty"`
	SourceDate     *int64        `envconfig:"SOURCE_DATE_EPOCH" desc:"seconds since 1970: the archive's time, and the latest that a file in it has; unset: each file's own, and the newest of them"`
	LogLevel       string        `envconfig:"LOG_LEVEL" default:"INFO" desc:"DEBUG, INFO, WARNING, ERROR or CRITICAL"`

	Role               string `envconfig:"BUILDENV_ROLE" desc:"buildenv's own: environment or standalone; default: standalone when ARTIFACT_STORE or S3_ENDPOINT is set, else environment"`
	ArtifactStore      string `envconfig:"ARTIFACT_STORE" desc:"buildenv's own: where the image is published, file:///DIR"`
	ScriptRequired     string `envconfig:"CUSTOMIZATION_SCRIPT_REQUIRED" default:"false" desc:"buildenv's own: true in any case: a customization script that fails, fails the job"`
	AuditLog           string `envconfig:"SSH_AUDIT_LOG" desc:"buildenv's own: file that what SSH users do is appended to, a JSON object a line, mode 0600; - or empty: it goes with the log"`
	RecordingsDir      string `envconfig:"SSH_RECORDINGS_DIR" desc:"buildenv's own: folder that what is shown on users' terminals is recorded in, one asciicast file each; it must not lie in the image root of a jail; empty: nothing is recorded"`
	RecordingsRequired string `envconfig:"SSH_RECORDINGS_REQUIRED" default:"false" desc:"buildenv's own: true in any case: no terminal that cannot be recorded"`
	LogFormat          string `envconfig:"LOG_FORMAT" default:"text" desc:"buildenv's own: text or json"`
}

// defaultBucket is the bucket of the artifacts unless S3_BUCKET names another.
const defaultBucket = "boot-images"

// maxJobID bounds a job's id, which becomes part of file names.
const maxJobID = 128

// Roles of a process.
const (
	roleEnvironment = "environment"
	roleStandalone  = "standalone"
)

// loadConfig reads the environment and reports everything that is wrong with it
// at once. The configuration is usable for ending the job in good order even
// when there are problems.
func loadConfig() (Config, error) {
	cfg, err := readEnvironment()
	return cfg, errors.Join(err, cfg.complete())
}

// readEnvironment is the configuration as the variables have it, before values
// that depend on others are filled in.
func readEnvironment() (Config, error) {
	dropEmpty()
	var cfg Config
	var problems []error
	for {
		err := envconfig.Process("", &cfg)
		var bad *envconfig.ParseError
		if !errors.As(err, &bad) {
			problems = append(problems, err)
			break
		}
		// Go on with the default, to find the next one.
		problems = append(problems, fmt.Errorf("%s: %q is no number", bad.KeyName, bad.Value))
		os.Unsetenv(bad.KeyName)
	}
	return cfg, errors.Join(problems...)
}

// complete fills in what depends on other values and reports what is wrong.
func (c *Config) complete() error {
	c.fillIn()
	return errors.Join(c.validate()...)
}

// dropEmpty unsets the variables of Config that are set to nothing.
func dropEmpty() {
	for field := range reflect.TypeFor[Config]().Fields() {
		name := field.Tag.Get("envconfig")
		if value, set := os.LookupEnv(name); set && value == "" && field.Tag.Get("empty") != "keep" {
			os.Unsetenv(name)
		}
	}
}

// fillIn sets the defaults that depend on other variables.
func (c *Config) fillIn() {
	if c.ImageName == "" {
		c.ImageName = c.RecipeName
	}
	if c.S3Endpoint == "" {
		c.S3Endpoint = c.S3Host
	}
	switch {
	case c.Arch == "aarch64" && (c.KernelFilename == "" || c.KernelFilename == "vmlinuz"):
		c.KernelFilename = "Image"
	case c.KernelFilename == "":
		c.KernelFilename = "vmlinuz"
	}
	if c.Role == "" {
		c.Role = roleEnvironment
		if c.ArtifactStore != "" || c.S3Endpoint != "" {
			c.Role = roleStandalone
		}
	}
}

func (c *Config) validate() []error {
	var problems []error
	oneOf := func(name, value string, allowed ...string) {
		if !slices.Contains(allowed, value) {
			problems = append(problems, fmt.Errorf("%s: %q is none of %s", name, value, strings.Join(allowed, ", ")))
		}
	}
	oneOf("BUILD_ARCH", c.Arch, "x86_64", "aarch64")
	oneOf("BUILDENV_ROLE", c.Role, roleEnvironment, roleStandalone)
	oneOf("KEEP_SOURCE", c.KeepSource, string(source.KeepAuto), string(source.KeepAlways), string(source.KeepNever))
	oneOf("LOG_FORMAT", c.LogFormat, "text", "json")
	oneOf("LOG_LEVEL", strings.ToUpper(c.LogLevel), "DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
	if strings.ContainsAny(c.JobID, "/\x00\n") || len(c.JobID) > maxJobID {
		problems = append(problems, fmt.Errorf("IMS_JOB_ID: %q is no id", c.JobID))
	}
	if c.RemoteHeartbeatCount < 1 {
		problems = append(problems, fmt.Errorf("REMOTE_HEARTBEAT_TIMEOUT_COUNT: %d: must be at least 1", c.RemoteHeartbeatCount))
	}
	if err := squashfs.CheckOptions(artifacts.PackOptions{Epoch: c.SourceDate}); err != nil {
		problems = append(problems, fmt.Errorf("SOURCE_DATE_EPOCH: %w", err))
	}
	if c.HelperTimeout < 1 {
		problems = append(problems, fmt.Errorf("IMS_PYTHON_HELPER_TIMEOUT: %d: must be at least 1 second", c.HelperTimeout))
	}
	if isTrue(c.RecordingsRequired) && c.RecordingsDir == "" {
		problems = append(problems, errors.New("SSH_RECORDINGS_DIR: empty, though SSH_RECORDINGS_REQUIRED asks for recordings"))
	}
	if c.Role == roleStandalone {
		problems = append(problems, c.validateStandalone()...)
	}
	return problems
}

func (c *Config) validateStandalone() []error {
	var problems []error
	if c.ArtifactStore == "" {
		problems = append(problems, errors.New("ARTIFACT_STORE: empty: the role standalone needs a store, file:///DIR (S3_ENDPOINT alone is none yet)"))
	} else if err := checkStore(c.ArtifactStore); err != nil {
		problems = append(problems, fmt.Errorf("ARTIFACT_STORE: %w", err))
	}
	if c.ImageName == "" {
		problems = append(problems, errors.New("IMAGE_ROOT_ARCHIVE_NAME: empty: the image needs a name"))
	}
	return problems
}

// packOptions are those of flags with what the environment adds.
func (c *Config) packOptions(flags artifacts.PackOptions) artifacts.PackOptions {
	flags.Epoch = c.SourceDate
	return flags
}

// reusing adds the archive that a root was unpacked from, if it has been kept and
// no other is named.
func reusing(pack artifacts.PackOptions, root string) artifacts.PackOptions {
	archive, record := source.Kept(root)
	if pack.From == "" && isFile(archive) {
		pack.From = archive
	}
	if o := source.OverlayOf(root); o.Exists() { // no other record tells what is below it
		pack.Upper, pack.Record = o.Upper(), record
	}
	if pack.Record == "" {
		pack.Record = record
	}
	return pack
}

func isTrue(value string) bool { return strings.EqualFold(value, "true") }

// jailed tells whether SSH users are kept in the image root. Only the very value
// that the templates write counts, because the sidecar looks for the markers by
// the same rule.
func (c *Config) jailed() bool { return c.SSHJail == "True" && c.RemoteBuildNode == "" }

// warnings are settings that are legal and probably not meant.
func (c *Config) warnings() []string {
	var warnings []string
	if c.SSHJail != "True" && isTrue(c.SSHJail) {
		warnings = append(warnings, fmt.Sprintf("SSH_JAIL is %q: only the exact value True jails the users; they are not jailed", c.SSHJail))
	}
	for _, flag := range []struct{ name, value string }{
		{"JOB_ENABLE_DKMS", c.EnableDKMS}, {"ENABLE_DEBUG", c.EnableDebug}, {"CUSTOMIZATION_SCRIPT_REQUIRED", c.ScriptRequired},
		{"SSH_RECORDINGS_REQUIRED", c.RecordingsRequired},
	} {
		if !isTrue(flag.value) && !strings.EqualFold(flag.value, "false") {
			warnings = append(warnings, fmt.Sprintf("%s is %q: only true switches it on; it is off", flag.name, flag.value))
		}
	}
	return warnings
}

// sessionEnv is what a job adds to the environment of its SSH sessions, as
// NAME=value in the order of the contract.
func (c *Config) sessionEnv() []string {
	return []string{
		"IMS_JOB_ID=" + c.JobID,
		"IMS_ARCH=" + c.Arch,
		"IMS_DKMS_ENABLED=" + c.EnableDKMS,
		"REMOTE_BUILD_NODE=" + c.RemoteBuildNode,
	}
}

// LogValue shows the effective configuration by the names of its variables;
// secrets redact themselves.
func (c Config) LogValue() slog.Value {
	var attrs []slog.Attr
	value := reflect.ValueOf(c)
	for field := range reflect.TypeFor[Config]().Fields() {
		attrs = append(attrs, slog.Any(field.Tag.Get("envconfig"), shown(value.FieldByIndex(field.Index))))
	}
	return slog.GroupValue(attrs...)
}

// shown is a field's value for the log; an unset optional one is "".
func shown(v reflect.Value) any {
	if v.Kind() != reflect.Pointer {
		return v.Interface()
	}
	if v.IsNil() {
		return ""
	}
	return v.Elem().Interface()
}
