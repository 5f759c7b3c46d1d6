"""What a user does with ctr, as shell lines: tests/scenarios/test_ctr.py runs each on containerd and on sampan."""

from __future__ import annotations

# Where the two versions of ctr need other words for the same thing.
WORDS = {
    "1.6": {"local": "", "last": "grep -v -e elapsed -e done"},
    "2.1": {"local": "--local", "last": "tail -6 | grep -v elapsed"},
}

# What ctr 1.6 has no command for.
ONLY_NEWER = ("sandboxes", "transfer")

SCRIPTS: dict[str, str] = {
    "restore": """
        ctr images pull --plain-http {busybox} >/dev/null 2>&1
        mkdir -p counted; echo 0 > counted/now
        echo 'i=0; while :; do i=$((i+1)); echo $i > /c/next; mv /c/next /c/now; usleep 20000; done' > counted/script
        ctr run -d --null-io --mount type=bind,src=$PWD/counted,dst=/c,options=rbind:rw {busybox} r1 sh /c/script
        await '[ $(cat counted/now) -gt 20 ] 2>/dev/null'
        ctr containers checkpoint --rw --image --task r1 saved:2
        ctr tasks kill -s KILL r1; await 'ctr tasks ls | grep -q STOPPED'
        ctr tasks rm r1 2>/dev/null; ctr containers rm r1
        cat counted/now > then; ctr containers restore --rw --live r1 saved:2
        await '[ $(cat counted/now) != $(cat then) ] 2>/dev/null'; test $(cat counted/now) -gt 15
        ctr tasks ls | grep -o 'r1.*RUNNING' | cut -d' ' -f1
        ctr tasks exec --exec-id e r1 cat /proc/1/comm
        ctr tasks kill -s KILL r1; await 'ctr tasks ls | grep -q STOPPED'
        ctr tasks rm r1 2>/dev/null; ctr containers rm r1; ctr images rm saved:2
        """,
    "checkpoint": """
        ctr images pull --plain-http {busybox} >/dev/null 2>&1
        ctr run -d --null-io {busybox} k1 sleep 1000
        ctr tasks checkpoint --image-path $PWD/saved k1
        ls saved | sed s/-.*// | sort -u; rm -r saved
        ctr tasks ls | grep -o 'k1.*RUNNING' | cut -d' ' -f1
        ctr containers checkpoint --task k1 saved:1
        ctr images ls name==saved:1 | cut -d' ' -f1
        ctr images ls name==saved:1 | tail -1 | awk '{{print $3}}' > index
        ctr content get $(cat index) | grep -o '"mediaType":"[^"]*"' | sort
        ctr tasks checkpoint --exit --image-path $PWD/saved k1
        await 'ctr tasks ls | grep -q STOPPED'
        ctr tasks checkpoint --image-path $PWD/saved k1; rm -r saved
        ctr tasks rm k1; ctr containers rm k1; ctr images rm saved:1
        ctr tasks checkpoint k1
        """,
    "namespaces": """
        ctr ns create {ns}x a=b
        ctr ns create {ns}x
        ctr ns label {ns}x c=d a=
        ctr ns ls | grep {ns}x
        ctr ns create Bad..name
        ctr -n {ns}x images ls
        ctr -n {ns}x leases create --id l
        ctr ns rm {ns}x
        ctr ns rm {ns}x
        ctr -n 'x y' images ls
        ctr -n '' images ls
        """,
    "images": """
        ctr images pull --plain-http {busybox} | {last}
        ctr images ls
        ctr images pull {local} --plain-http {busybox} | grep -v -e elapsed -e done
        ctr images check
        ctr images tag {busybox} bb:1
        ctr images tag {busybox} bb:1
        ctr images tag --force {busybox} bb:1
        ctr images tag nothere bb:2
        ctr images ls -q
        ctr images ls -q name==bb:1
        ctr images ls -q 'name~=busy.*'
        ctr images ls 'bad//'
        ctr images ls 'name=x'
        ctr images label bb:1 x=y
        ctr images ls -q 'labels."x"==y'
        ctr images label --replace-all bb:1 q=r
        ctr images ls name==bb:1
        ctr images rm nothere
        ctr images rm bb:1
        ctr images mount {busybox} mnt0
        mkdir -p mnt; ctr images mount {busybox} mnt; ls mnt; ctr images unmount --rm mnt
        ctr images unpack {busybox}
        ctr images push --plain-http {host}/pushed-{kind}:1 {busybox} >/dev/null
        ctr images pull --plain-http {host}/pushed-{kind}:1 >/dev/null; ctr images ls -q | wc -l
        ctr images pull --plain-http {host}/nothere:1
        """,
    "import_export": """
        ctr images pull --plain-http {layered} >/dev/null 2>&1
        ctr images export one.tar {layered}; tar tf one.tar | sort
        ctr images export two.tar nothere
        ctr -n {ns}x images import one.tar
        ctr -n {ns}x images ls
        ctr -n {ns}x images check | grep -v REF
        ctr -n {ns}x leases create --id sweep; ctr -n {ns}x leases rm --sync sweep
        ctr -n {ns}x content ls -q
        ctr -n {ns}x snapshots ls
        ctr -n {ns}x images rm --sync {layered}
        ctr -n {ns}x content ls -q
        ctr -n {ns}x snapshots ls
        ctr ns rm {ns}x
        ctr images import --base-name other --digests one.tar
        """,
    "transfer": """
        ctr images pull --plain-http --label a=b {busybox} >/dev/null; ctr images ls
        ctr content ls
        ctr snapshots info $(ctr snapshots ls | awk '/Committed/ {{print $1}}') | grep -v ated
        ctr images pull --plain-http {index} >/dev/null; ctr images ls -q; ctr content ls -q; ctr images check | sed 1d
        ctr images pull --plain-http --platform linux/s390x {foreign} >/dev/null; ctr content ls -q
        ctr -n {ns}x images pull --plain-http --all-platforms {index} >/dev/null; ctr -n {ns}x content ls -q
        ctr images pull --plain-http {host}/nothere:1
        ctr images pull nohost:1
        ctr images pull --plain-http --platform linux/mips64 {busybox} 2>&1 | tail -1 | grep -v elapsed
        ctr images push --plain-http {host}/moved-{kind}:1 {busybox} | tail -6 | grep application
        ctr images push --plain-http {host}/moved-{kind}:1 nothere
        ctr images pull --plain-http {host}/moved-{kind}:1 >/dev/null; ctr images rm {host}/moved-{kind}:1
        ctr images tag {busybox} bb:1 bb:2; ctr images tag {busybox} bb:1; ctr images tag nothere bb:3; ctr images ls -q
        ctr images export one.tar {busybox}; tar tf one.tar; tar xOf one.tar manifest.json | jq -c .
        ctr images export two.tar bb:1 bb:2; tar tf two.tar; tar xOf two.tar manifest.json | jq -c .
        ctr images export index.tar {index}; tar tf index.tar
        ctr images export --all-platforms --skip-manifest-json every.tar {index}; tar tf every.tar
        ctr images export none.tar nothere
        ctr -n {ns}y images import one.tar | {last}; ctr -n {ns}y images ls; ctr -n {ns}y snapshots ls
        ctr -n {ns}y images rm --sync {busybox}; ctr -n {ns}y content ls -q; ctr -n {ns}y snapshots ls
        ctr -n {ns}z images import --base-name foo --digests --no-unpack two.tar | {last}; ctr -n {ns}z images ls
        ctr -n {ns}z images import --index-name idx:1 --label q=r two.tar >/dev/null; ctr -n {ns}z images ls -q
        ctr -n {ns}z snapshots ls; ctr -n {ns}z images rm --sync $(ctr -n {ns}z images ls -q)
        ctr -n {ns}z content ls -q; ctr -n {ns}z snapshots ls
        ctr images rm --sync {busybox} {index} {foreign} bb:1 bb:2; ctr content ls -q; ctr snapshots ls; ctr leases ls
        """,
    "sandboxes": """
        ctr sandboxes ls
        echo '{{}}' >pod.json; ctr sandboxes create pod.json s1
        ctr sandboxes create pod.json s1
        ctr sandboxes ls
        ctr sandboxes rm s1 2>&1 | cut -d' ' -f2-; ctr sandboxes rm -f s1 2>&1 | cut -d' ' -f2-; ctr sandboxes ls
        ctr sandboxes rm nothere 2>&1 | cut -d' ' -f2-
        """,
    "content": """
        ctr content fetch --plain-http {busybox} >/dev/null 2>&1
        ctr content ls -q
        ctr content get sha256:4d67b4575640f94e2a51e172b9f37f098baae046d01371263a605464e5d4f904
        ctr content get nodigest
        echo hello | ctr content ingest --expected-digest {hello} r1; ctr content label {hello} containerd.io/gc.root=x
        echo hello | ctr content ingest --expected-digest {hello} r1
        echo hello | ctr content ingest r9
        echo hallo | ctr content ingest --expected-size 3 r3
        ctr content active | sed 1d
        ctr content get {hello}
        ctr content label {hello} k=v | tr , '\\n'
        ctr content ls -q 'labels.k==v'
        ctr -n {ns}x content get {hello}
        ctr -n {ns}x content ls -q
        ctr content rm {hello}
        ctr content rm {hello}
        """,
    "snapshots": """
        ctr images pull --plain-http {busybox} >/dev/null 2>&1
        ctr snapshots prepare p1 $(ctr snapshots ls | awk '/Committed/ {{print $1}}')
        ctr snapshots prepare p1
        ctr snapshots prepare p3 nothere
        ctr snapshots mounts /mnt p1
        ctr snapshots mounts /mnt nothere
        ctr snapshots view v1 $(ctr snapshots ls | awk '/Committed/ {{print $1}}')
        ctr snapshots ls
        ctr snapshots tree
        ctr snapshots info p1 | grep -v ated
        ctr snapshots info nothere
        ctr snapshots label p1 k=v >/dev/null; ctr snapshots info p1 | grep '"k"'
        mkdir -p m; $(ctr snapshots mounts m p1); echo new > m/newfile; rm -f m/etc/group; ln m/newfile m/link; umount m
        ctr snapshots diff --media-type application/vnd.oci.image.layer.v1.tar p1 | tar t
        ctr snapshots diff p1 | tar tz
        ctr snapshots diff --media-type application/x-nothing p1
        ctr snapshots commit c1 p1
        ctr snapshots commit c2 nothere
        ctr snapshots prepare p4 c1; ctr snapshots commit c1 p4
        ctr snapshots ls | grep -v v1
        ctr snapshots rm $(ctr snapshots ls | awk '/Committed/ && /sha256/ {{print $1; exit}}')
        ctr snapshots rm nothere
        ctr snapshots rm p4; ctr snapshots rm c1
        ctr snapshots usage | grep -c KiB
        ctr snapshots --snapshotter nosuch ls
        ctr snapshots --snapshotter native prepare n1; ctr snapshots --snapshotter native ls
        ctr snapshots --snapshotter native rm n1
        """,
    "leases": """
        ctr leases create --id l1 --expires 1h a=b
        ctr leases create --id l1
        ctr leases ls -q
        ctr leases ls -q 'id==l1'
        ctr leases ls -q 'id==l2'
        ctr leases rm l1
        ctr leases rm l1
        ctr leases create --id l2; ctr leases rm --sync l2
        """,
    "containers": """
        ctr images pull --plain-http {busybox} >/dev/null 2>&1
        ctr containers create {busybox} c1
        ctr containers create {busybox} c1
        ctr containers create {host}/nothere:1 c2
        ctr containers create --label a=b {busybox} c3
        ctr containers ls
        ctr containers ls -q 'labels.a==b'
        ctr containers ls -q 'id==c1'
        ctr containers info c1 | grep -v ated
        ctr containers info nothere
        ctr containers label c1 x=y | tr , '\\n'
        ctr containers label c1
        ctr containers label nothere x=y | tr , '\\n'
        ctr containers rm nothere
        ctr containers rm c1 c3
        ctr containers ls
        ctr snapshots ls
        ctr containers create --snapshotter native {busybox} c4; ctr containers ls; ctr containers rm c4
        """,
    "run": """
        ctr images pull --plain-http {busybox} >/dev/null 2>&1
        ctr run --rm {busybox} t1 echo hello
        ctr run --rm {busybox} t1 sh -c 'echo out; echo err >&2; exit 7'
        ctr run --rm {busybox} t1 nosuchcommand
        (echo input data; sleep 1) | ctr run --rm {busybox} t1 cat
        ctr run --rm --env A=B --cwd /tmp {busybox} t1 sh -c 'echo $A; pwd'
        ctr run --rm --read-only {busybox} t1 touch /x
        ctr run --rm --mount type=bind,src=$PWD,dst=/here,options=rbind:ro {busybox} t1 touch /here/x
        ctr run --rm --null-io {busybox} t1 echo hello
        ctr run --rm --net-host {busybox} t1 true
        ctr run --rm --user 1000:1000 {busybox} t1 id
        ctr run --rm --memory-limit 33554432 {busybox} t1 true
        ctr run --rm --runc-binary runc {busybox} t1 echo by runc
        ctr run --rm --runtime io.containerd.nosuch.v2 {busybox} t1 true
        ctr run --rm {busybox} t1 dd if=/dev/zero bs=1M count=5 2>/dev/null | md5sum
        rm -f out.log; ctr run -d --log-uri file://$PWD/out.log {busybox} t2 echo logged
        await 'ctr tasks ls | grep -q STOPPED'; cat out.log; ctr tasks rm t2; ctr containers rm t2
        script -qec "ctr run --rm -t {busybox} t3 sh -c 'tty; echo done'" /dev/null </dev/null | tr -d '\\000'
        ctr containers ls; ctr tasks ls; ctr snapshots ls; ls /run/containerd/fifo
        """,
    "tasks": """
        ctr images pull --plain-http {busybox} >/dev/null 2>&1
        ctr run -d {busybox} d1 sh -c 'trap "exit 3" TERM; sleep 1000 & wait'
        ctr run -d {busybox} d1 true
        ctr tasks ls
        ctr tasks exec --exec-id e1 d1 echo inside
        ctr tasks exec --exec-id e1 d1 sh -c 'exit 5'
        ctr tasks exec --exec-id e1 d1 nosuchcommand
        ctr tasks exec --user 1000 --cwd /tmp --exec-id e1 d1 sh -c 'id -u; pwd'
        (echo abc; sleep 1) | ctr tasks exec --exec-id e1 d1 cat
        ctr tasks ps d1 | wc -l
        ctr tasks pause d1; ctr tasks ls; ctr tasks exec --exec-id e2 d1 true; ctr tasks resume d1; ctr tasks ls
        ctr tasks metrics d1 | awk '{{print $1}}'
        ctr containers rm d1
        ctr tasks rm d1
        ctr tasks kill -s TERM d1; await 'ctr tasks ls | grep STOPPED'
        ctr tasks kill d1
        ctr tasks rm d1
        ctr tasks rm d1
        ctr tasks kill nothere
        ctr tasks exec --exec-id x nothere true
        ctr tasks ls
        ctr containers rm d1; ctr containers ls
        ctr containers create {busybox} c9 echo started; ctr tasks start c9; ctr tasks start c9; ctr containers rm c9
        ctr run -d {busybox} d2 sleep 100; ctr tasks rm -f d2; ctr containers rm d2
        """,
    "events": """
        timeout 50 ctr events >events.txt 2>&1 & sleep 1
        ctr images pull --plain-http {busybox} >/dev/null 2>&1
        ctr run -d {busybox} v1 sleep 100
        ctr tasks exec --exec-id x1 v1 true
        ctr tasks pause v1; ctr tasks resume v1
        ctr tasks kill -s KILL v1; await 'ctr tasks ls | grep -q STOPPED'
        ctr tasks rm v1; ctr containers rm v1
        ctr images label {busybox} a=b
        ctr images rm --sync {busybox}
        ctr ns create {ns}x a=b; ctr ns rm {ns}x
        await 'grep -q namespaces/delete events.txt'
        cut -d' ' -f5- events.txt | grep -v -e /content/create -e 'snapshot/remove.*sha256' >told.txt
        sed -E 's/extract-[^ ]*//; s/"bundle":"[^"]*"//; s/^[^ ]* (.namespaces.create)/\1/' told.txt
        """,
}
