package pki

import (
	"crypto/x509"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"daosbox/cluster/fault"
)

// InitOptions shape a new authority and its first certificates.
type InitOptions struct {
	// Days is the validity of everything made; 0 means DefaultDays.
	Days int
	// CAName is the authority's common name; "" means DefaultCAName.
	CAName string
	// Start is when the validity begins; the zero time means now.
	Start time.Time
}

// staging is the file whose presence says that an Init began and did not end.
const staging = ".daosbox-certs-init"

// Init makes an authority in dir, and server, agent and admin certificates of it:
//
//	daosCA.crt, {server,agent,admin}.crt   0644
//	{server,agent,admin}.key               0400
//	clients/{agent,admin}.crt              0755, 0644
//	private/daosCA.key                     0700, 0400
//
// Root gives server and client files to the account daos_server and the agent's to
// daos_agent where these exist. A dir that holds an authority or certificates
// already is refused with fault.Exists and left as it is. An Init that was cut
// short is begun anew by the next one.
func Init(dir string, o InitOptions) error {
	from, to, err := validity(o.Start, o.Days)
	if err != nil {
		return err
	}
	if o.CAName == "" {
		o.CAName = DefaultCAName
	}
	if err := makeDirs(dir); err != nil {
		return err
	}
	unlock, err := lock(dir)
	if err != nil {
		return err
	}
	defer unlock()
	if err := vacant(dir); err != nil {
		return err
	}
	files, err := newTree(ours(dir), o.CAName, from, to)
	if err != nil {
		return err
	}
	mark := filepath.Join(dir, staging)
	if err := os.WriteFile(mark, nil, 0o600); err != nil {
		return writeFault(mark, err)
	}
	if err := syncDir(dir); err != nil {
		return writeFault(mark, err)
	}
	if err := makeDir(filepath.Join(dir, "private"), 0o700); err != nil {
		return err
	}
	if err := makeDir(filepath.Join(dir, "clients"), 0o755); err != nil {
		return err
	}
	if err := install(files); err != nil {
		return err
	}
	if err := os.Remove(mark); err != nil {
		return writeFault(mark, err)
	}
	return nil
}

// vacant refuses a directory that has an authority, whole or in part, or role
// certificates, unless they are what a cut-short Init left.
func vacant(dir string) error {
	for _, l := range layouts(dir) {
		if _, err := os.Lstat(l.caCert); err == nil {
			return fault.New(fault.Exists, "cannot make a CA in %s: there is one already, %s", dir, l.caCert).
				WithHint("issue more certificates with `daosbox certs issue --dir %s`, or take another directory", dir)
		}
	}
	if _, err := os.Lstat(filepath.Join(dir, staging)); err == nil {
		return removeLeftovers(dir)
	}
	l := ours(dir)
	taken := []string{l.caKey}
	for _, role := range roles {
		taken = append(taken, l.cert(role), l.key(role), l.client(role))
	}
	for _, path := range taken {
		if _, err := os.Lstat(path); err == nil {
			return fault.New(fault.Exists, "cannot make a CA in %s: it would replace %s", dir, path).
				WithHint("take another directory, or move the old certificates away")
		}
	}
	return nil
}

// removeLeftovers removes files written aside by an Init that did not end.
func removeLeftovers(dir string) error {
	for _, sub := range []string{".", "private", "clients"} {
		names, err := filepath.Glob(filepath.Join(dir, sub, ".tmp-*"))
		if err != nil {
			return writeFault(dir, err)
		}
		for _, name := range names {
			if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return writeFault(name, err)
			}
		}
	}
	return nil
}

// newTree makes everything that Init writes. The CA certificate comes last: the
// directory counts as made when it is there.
func newTree(l layout, name string, from, to time.Time) ([]output, error) {
	ca, err := makeCA(name, from, to)
	if err != nil {
		return nil, err
	}
	key, err := keyPEM(ca.key)
	if err != nil {
		return nil, err
	}
	files := []output{{path: l.caKey, data: key, mode: 0o400}}
	for _, role := range roles {
		leaf, err := makeLeaf(role, ca, from, to)
		if err != nil {
			return nil, err
		}
		more, err := roleFiles(l, role, leaf)
		if err != nil {
			return nil, err
		}
		files = append(files, more...)
	}
	return append(files, output{path: l.caCert, data: certPEM(ca.cert), mode: 0o644, user: "root", group: "daos_daemons"}), nil
}

// roleFiles lists the files of one role's certificate.
func roleFiles(l layout, role Role, leaf pair) ([]output, error) {
	key, err := keyPEM(leaf.key)
	if err != nil {
		return nil, err
	}
	owner := "daos_" + string(role)
	if role == Admin {
		owner = "" // whoever administers
	}
	cert := certPEM(leaf.cert)
	files := []output{
		{path: l.key(role), data: key, mode: 0o400, user: owner, group: owner},
		{path: l.cert(role), data: cert, mode: 0o644, user: owner, group: owner},
	}
	if role != Server {
		files = append(files, output{path: l.client(role), data: cert, mode: 0o644, user: "daos_server", group: "daos_server"})
	}
	return files, nil
}

// IssueOptions shape one more certificate.
type IssueOptions struct {
	// Days is the validity, which also ends with the authority's; 0 means
	// DefaultDays.
	Days int
	// Out is the directory to write to, made when it is missing; "" means where
	// the authority's other certificates are.
	Out string
	// Force replaces files that exist.
	Force bool
	// Start is when the validity begins; the zero time means now.
	Start time.Time
}

// Issued is what Issue made.
type Issued struct {
	// Cert and Key are the paths of the new files.
	Cert, Key string
	// Client is the copy for the servers' client directories, "" for a server.
	Client string
	// Certificate is the new certificate.
	Certificate *x509.Certificate
}

// Issue makes one more certificate of a role with the authority in dir, which Init
// or the script of older systems made. The files get the names and modes of Init.
// With an Out elsewhere the CA certificate is copied there, so that the directory
// is complete for a host.
func Issue(dir string, role Role, o IssueOptions) (*Issued, error) {
	if !role.Known() {
		return nil, fault.New(fault.Usage, "cannot issue a certificate for role %q: it is not server, agent or admin", role)
	}
	from, to, err := validity(o.Start, o.Days)
	if err != nil {
		return nil, err
	}
	source, err := find(dir)
	if err != nil {
		return nil, err
	}
	ca, err := openCA(source)
	if err != nil {
		return nil, err
	}
	leaf, err := makeLeaf(role, ca, from, to)
	if err != nil {
		return nil, err
	}
	target, copied := source, []output(nil)
	if o.Out != "" {
		if target, copied, err = targetDir(o.Out, source, ca); err != nil {
			return nil, err
		}
	}
	unlock, err := lock(target.certs)
	if err != nil {
		return nil, err
	}
	defer unlock()
	files, err := roleFiles(target, role, leaf)
	if err != nil {
		return nil, err
	}
	if err := unused(files, o.Force); err != nil {
		return nil, err
	}
	if err := makeDir(filepath.Join(target.certs, "clients"), 0o755); err != nil {
		return nil, err
	}
	if err := install(append(copied, files...)); err != nil {
		return nil, err
	}
	done := &Issued{Cert: target.cert(role), Key: target.key(role), Certificate: leaf.cert}
	if role != Server {
		done.Client = target.client(role)
	}
	return done, nil
}

// openCA reads the authority and checks that it can sign now.
func openCA(l layout) (pair, error) {
	certs, err := readCerts(l.caCert)
	if err != nil {
		return pair{}, err
	}
	key, err := readKey(l.caKey, keyMode)
	if err != nil {
		if fault.Of(err) == fault.CertificateMissing {
			return pair{}, fault.New(fault.CertificateMissing, "cannot issue certificates: the CA key %s does not exist", l.caKey).
				WithHint("issue certificates on the host where the CA was made")
		}
		return pair{}, err
	}
	for _, cert := range certs {
		if !samePublic(cert, key) {
			continue
		}
		now := time.Now()
		if why := expiry(cert, now); why != "" {
			return pair{}, fault.New(fault.CertificateInvalid, "cannot issue certificates: %s", why).
				WithHint("%s", hintFor(cert, now))
		}
		return pair{cert: cert, key: key}, nil
	}
	return pair{}, fault.New(fault.Certificate, "cannot issue certificates: the key %s does not belong to %s", l.caKey, l.caCert).
		WithHint("put the key and certificate of one CA together")
}

// targetDir prepares another directory and says whether the CA certificate must be
// copied to it; one of another authority is refused.
func targetDir(out string, source layout, ca pair) (layout, []output, error) {
	if err := makeDirs(out); err != nil {
		return layout{}, nil, err
	}
	target := ours(out)
	there, err := readCerts(target.caCert)
	switch {
	case fault.Of(err) == fault.CertificateMissing:
		return target, []output{{path: target.caCert, data: certPEM(ca.cert), mode: 0o644, user: "root", group: "daos_daemons"}}, nil
	case err != nil:
		return layout{}, nil, err
	}
	for _, cert := range there {
		if cert.Equal(ca.cert) {
			return target, nil, nil
		}
	}
	return layout{}, nil, fault.New(fault.Exists, "cannot issue into %s: it has the certificate of another CA than %s", out, source.caCert).
		WithHint("take another directory, or add this CA to the file there first")
}

// unused refuses to replace files unless forced.
func unused(files []output, force bool) error {
	if force {
		return nil
	}
	for _, f := range files {
		if _, err := os.Lstat(f.path); err == nil {
			return fault.New(fault.Exists, "cannot issue a certificate: %s exists", f.path).
				WithHint("replace it with --force, or write elsewhere with --out")
		}
	}
	return nil
}
