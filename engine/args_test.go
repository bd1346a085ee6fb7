package engine

import (
	"slices"
	"strings"
	"testing"

	"daosbox/cluster/fault"

	"github.com/matryer/is"
)

func ptr(n int) *int { return &n }

func TestArgv(t *testing.T) {
	for name, c := range map[string]struct {
		args Args
		want string
	}{
		"nothing":  {Args{}, "-x 0 -I 0 -r 0 -H 0"},
		"one tier": {Args{Targets: 4, Helpers: 2, FirstCore: ptr(0), System: "daos_server", SocketDir: "/run/d", Tiers: 1, Index: 1, SCMMount: "/mnt/d"}, "-t 4 -x 2 -f 0 -g daos_server -d /run/d -T 1 -I 1 -r 0 -H 0 -s /mnt/d"},
		"checker":  {Args{Targets: 1, Check: true, SCMMount: "/m"}, "-t 1 -x 0 -I 0 -r 0 -H 0 -C -s /m"},
		"everything": {
			Args{Modules: "vos,rdb", Targets: 8, Helpers: 2, FirstCore: ptr(1), System: "s", SocketDir: "/d", Tiers: 2, NVMeConf: "/m/daos_nvme.conf",
				BypassHealthCheck: true, NUMANode: ptr(0), Index: 3, MemSizeMiB: 8192, HugepageSizeMiB: 2, Check: true, SCMMount: "/m"},
			"-m vos,rdb -t 8 -x 2 -f 1 -g s -d /d -T 2 -n /m/daos_nvme.conf -b -p 0 -I 3 -r 8192 -H 2 -C -s /m",
		},
	} {
		t.Run(name, func(t *testing.T) {
			is := is.New(t)
			is.Equal(strings.Join(c.args.Argv(), " "), c.want)
		})
	}
	is := is.New(t)
	is.Equal(Args{System: "two words"}.Argv()[2:4], []string{"-g", "two words"}) // one word each
}

func TestEnv(t *testing.T) {
	server := map[string]string{"HOME": "/root", "EMPTY": "", "FROM_SERVER": "s", "D_PROVIDER": "server", "BOTH": "server", "LD_LIBRARY_PATH": "/l"}
	lookup := func(name string) (string, bool) { v, ok := server[name]; return v, ok }
	base := []string{"CRT_TIMEOUT=0", "FI_OFI_RXM_USE_SRX=1", "PMEMOBJ_CONF=sds.at_create=0"}
	with := func(more ...string) []string { return append(slices.Clone(more), base...) }
	for name, c := range map[string]struct {
		spec EnvSpec
		want []string
	}{
		"nothing": {EnvSpec{}, base},
		"config": {
			EnvSpec{Provider: "ofi+tcp", Interface: "eth0", Port: 31416, Domain: "eth0", CRTTimeout: 30, DisableSRX: true, AuthKey: "k", LogMask: "ERR", LogFile: "/l", BdevClass: "nvme", SCMClass: "ram"},
			[]string{"D_PROVIDER=ofi+tcp", "D_INTERFACE=eth0", "D_PORT=31416", "CRT_TIMEOUT=30", "FI_OFI_RXM_USE_SRX=0", "D_PROVIDER_AUTH_KEY=k",
				"D_LOG_MASK=ERR", "D_LOG_FILE=/l", "VOS_BDEV_CLASS=NVME", "PMEMOBJ_CONF=sds.at_create=0", "D_DOMAIN=eth0"},
		},
		"verbs":        {EnvSpec{Provider: "ofi+verbs"}, with("D_PROVIDER=ofi+verbs;ofi_rxm")},
		"verbs whole":  {EnvSpec{Provider: "ofi+verbs;ofi_rxm"}, with("D_PROVIDER=ofi+verbs;ofi_rxm")},
		"two fabrics":  {EnvSpec{Provider: "ofi+verbs,ofi+tcp"}, with("D_PROVIDER=ofi+verbs;ofi_rxm,ofi+tcp")},
		"file tier":    {EnvSpec{BdevClass: "file"}, []string{"CRT_TIMEOUT=0", "FI_OFI_RXM_USE_SRX=1", "VOS_BDEV_CLASS=AIO", "PMEMOBJ_CONF=sds.at_create=0"}},
		"kdev tier":    {EnvSpec{BdevClass: "kdev"}, []string{"CRT_TIMEOUT=0", "FI_OFI_RXM_USE_SRX=1", "VOS_BDEV_CLASS=AIO", "PMEMOBJ_CONF=sds.at_create=0"}},
		"malloc tier":  {EnvSpec{BdevClass: "malloc"}, []string{"CRT_TIMEOUT=0", "FI_OFI_RXM_USE_SRX=1", "VOS_BDEV_CLASS=MALLOC", "PMEMOBJ_CONF=sds.at_create=0"}},
		"own domain":   {EnvSpec{Domain: "scan", EnvVars: []string{"D_DOMAIN=mine"}}, []string{base[0], base[1], "D_DOMAIN=mine", base[2]}},
		"stack ucx":    {EnvSpec{Provider: "ucx+dc_x", MDonSSD: true}, []string{"D_PROVIDER=ucx+dc_x", base[0], base[1], "ABT_THREAD_STACKSIZE=32768", base[2]}},
		"stack md":     {EnvSpec{MDonSSD: true}, []string{base[0], base[1], "ABT_THREAD_STACKSIZE=24576", base[2]}},
		"stack dcpm":   {EnvSpec{SCMClass: "dcpm"}, []string{base[0], base[1], "ABT_THREAD_STACKSIZE=20480"}},
		"stack own":    {EnvSpec{MDonSSD: true, EnvVars: []string{"ABT_THREAD_STACKSIZE=65536"}}, []string{base[0], base[1], "ABT_THREAD_STACKSIZE=65536", base[2]}},
		"pmem append":  {EnvSpec{EnvVars: []string{"PMEMOBJ_CONF=a=1"}}, []string{base[0], base[1], "PMEMOBJ_CONF=a=1;sds.at_create=0"}},
		"pmem given":   {EnvSpec{EnvVars: []string{"PMEMOBJ_CONF=sds.at_create=0"}}, base},
		"precedence":   {EnvSpec{Provider: "cfg", EnvVars: []string{"D_PROVIDER=own", "BOTH=own", "A=", "=b", "X=1", "X=2", "CRT_TIMEOUT=9"}, PassThrough: []string{"D_PROVIDER", "BOTH", "EMPTY", "NONE", "FROM_SERVER"}}, []string{"D_PROVIDER=cfg", base[0], base[1], "BOTH=own", "X=1", base[2], "FROM_SERVER=s"}},
		"equal sign":   {EnvSpec{EnvVars: []string{"A=b=c"}}, []string{base[0], base[1], "A=b=c", base[2]}},
		"subsystems":   {EnvSpec{LogMask: "DEBUG", EnvVars: []string{"DD_SUBSYS=mgmt,rdb", "DD_MASK=all"}}, []string{base[0], base[1], "D_LOG_MASK=ERROR,mgmt=DEBUG,rdb=DEBUG", "DD_MASK=all", base[2]}},
		"filter alone": {EnvSpec{EnvVars: []string{"DD_SUBSYS=mgmt"}}, []string{base[0], base[1], "DD_SUBSYS=mgmt", base[2]}},
		"own mask":     {EnvSpec{EnvVars: []string{"DD_SUBSYS=mgmt", "D_LOG_MASK=INFO"}}, []string{base[0], base[1], "D_LOG_MASK=ERROR,mgmt=INFO", base[2]}},
		"old names": {EnvSpec{OldNames: true, Provider: "ofi+sockets", Interface: "ib0", Port: 1, Domain: "d"}, []string{"D_PROVIDER=ofi+sockets", "D_INTERFACE=ib0", "D_PORT=1",
			"CRT_PHY_ADDR_STR=ofi+sockets", "OFI_INTERFACE=ib0", "OFI_PORT=1", base[0], base[1], base[2], "D_DOMAIN=d", "OFI_DOMAIN=d"}},
	} {
		t.Run(name, func(t *testing.T) {
			is := is.New(t)
			got, err := c.spec.Env(lookup)
			is.NoErr(err)
			is.Equal(strings.Join(got, "\n"), strings.Join(c.want, "\n"))
		})
	}
}

func TestEnvRefused(t *testing.T) {
	for name, c := range map[string]struct {
		spec EnvSpec
		want string
	}{
		"inherited srx":  {EnvSpec{PassThrough: []string{"FI_OFI_RXM_USE_SRX"}}, "may not be inherited"},
		"no value":       {EnvSpec{EnvVars: []string{"A"}}, "NAME=VALUE"},
		"small stack":    {EnvSpec{MDonSSD: true, EnvVars: []string{"ABT_THREAD_STACKSIZE=24575"}}, "too small"},
		"text stack":     {EnvSpec{MDonSSD: true, EnvVars: []string{"ABT_THREAD_STACKSIZE=big"}}, "not a number"},
		"pmem with dcpm": {EnvSpec{SCMClass: "dcpm", EnvVars: []string{"PMEMOBJ_CONF=sds.at_create=0"}}, "may not have"},
		"pmem without":   {EnvSpec{SCMClass: "ram", EnvVars: []string{"PMEMOBJ_CONF=sds.at_create=1"}}, "needs persistent memory"},
		"bad mask":       {EnvSpec{LogMask: "LOUD", EnvVars: []string{"DD_SUBSYS=mgmt"}}, "not a level"},
	} {
		t.Run(name, func(t *testing.T) {
			is := is.New(t)
			_, err := c.spec.Env(nil)
			is.Equal(fault.Of(err), fault.Config)
			is.True(strings.Contains(err.Error(), c.want))
			is.True(fault.HintOf(err) != "")
		})
	}
}

func TestMergeLogMask(t *testing.T) {
	for _, c := range []struct{ mask, filter, want string }{
		{"DEBUG", "ALL", "DEBUG"},
		{"DEBUG,MGMT=INFO", "all", "DEBUG,MGMT=INFO"},
		{"ERR", "mgmt", "ERR"},
		{"MGMT=DEBUG,RDB=DEBUG", "mgmt", "ERROR,MGMT=DEBUG"},
		{"INFO,MGMT=DEBUG,RDB=CRIT", "MGMT,VOS,vos", "ERROR,MGMT=DEBUG,RDB=CRIT,VOS=INFO"},
		{"CRIT,MGMT=CRIT,VOS=DEBUG", "VOS", "CRIT,VOS=DEBUG"},
		{"WARN,MGMT=ERR", "RDB", "ERROR,RDB=WARN"},
	} {
		t.Run(c.mask+"/"+c.filter, func(t *testing.T) {
			is := is.New(t)
			got, err := MergeLogMask(c.mask, c.filter)
			is.NoErr(err)
			is.Equal(got, c.want)
		})
	}
}

// FuzzMergeLogMask: what was merged is a mask again, and merging once more changes
// nothing.
func FuzzMergeLogMask(f *testing.F) {
	f.Add("DEBUG,MGMT=INFO", "mgmt,rdb")
	f.Add("ERR", "ALL")
	f.Fuzz(func(t *testing.T, mask, filter string) {
		if strings.Contains(filter, "=") {
			return
		}
		got, err := MergeLogMask(mask, filter)
		if err != nil {
			return
		}
		again, err := MergeLogMask(got, filter)
		if err != nil || again != got {
			t.Fatalf("%q with %q: %q, then %q (%v)", mask, filter, got, again, err)
		}
	})
}
