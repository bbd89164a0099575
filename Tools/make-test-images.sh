#!/bin/bash
# Makes the container images of Martlet's tests, without a registry: OUTDIR/{busybox,app,nginx-1.14.2,nginx-1.16.1}.tar, each a
# docker-save archive for `martlet image import FILE` (or `ctr -n k8s.io images import FILE`).
#   busybox        docker.io/library/busybox:1.36 and :latest     every applet of Debian's busybox-static
#   app            docker.io/library/app:latest                   runs until SIGTERM; also as any user, read-only, no capabilities
#   nginx-VERSION  docker.io/library/nginx:1.14.2, :1.16.1        Debian's nginx; its page says the version asked for
# The same input gives the same bytes. Files already in OUTDIR are kept. Needs: tar, sha256sum, apt (for packages not installed).
set -euo pipefail
out=${1:?usage: make-test-images.sh OUTDIR}
mkdir -p "$out"
out=$(cd "$out" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
case $(uname -m) in x86_64) arch=amd64 ;; aarch64) arch=arm64 ;; *) echo "unsupported machine $(uname -m)" >&2; exit 1 ;; esac

# program NAME PACKAGE: path of an installed program, or of one taken from the Debian package.
program() {
    local path
    if path=$(PATH=$PATH:/usr/sbin:/sbin command -v "$1"); then echo "$path"; return; fi
    mkdir -p "$work/deb/$2"
    (cd "$work/deb/$2" && apt-get download -qq "$2" && dpkg-deb -x ./*.deb .) >&2
    find "$work/deb/$2" -name "$1" -type f -perm -100 | head -1
}

tar_same() { tar --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner -C "$1" -cf "$2" .; }

# base ROOT: busybox and the files a C library expects.
base() {
    mkdir -p "$1"/{bin,etc,home,root,proc,sys,dev,tmp,run,usr/bin,usr/sbin,sbin,var/log,var/www}
    chmod 1777 "$1/tmp"
    cp "$busybox" "$1/bin/busybox"
    local applet
    for applet in $("$busybox" --list); do [ "$applet" = busybox ] || ln -s busybox "$1/bin/$applet"; done
    printf 'root:x:0:0:root:/root:/bin/sh\nnginx:x:101:101:nginx:/nonexistent:/bin/false\nnobody:x:65534:65534:nobody:/:/bin/false\n' > "$1/etc/passwd"
    printf 'root:x:0:\nnginx:x:101:\nnogroup:x:65534:\n' > "$1/etc/group"
    echo 'hosts: files dns' > "$1/etc/nsswitch.conf"
}

# image FILE ROOT CONFIG-JSON TAG...: one layer, docker-save format.
image() {
    local file=$1 root=$2 config=$3 dir layer digest tags
    shift 3
    dir=$work/archive-$file
    mkdir -p "$dir"
    tar_same "$root" "$dir/layer.tar"
    layer=$(sha256sum "$dir/layer.tar" | cut -d' ' -f1)
    printf '{"architecture":"%s","os":"linux","created":"1970-01-01T00:00:00Z","config":%s,"rootfs":{"type":"layers","diff_ids":["sha256:%s"]},"history":[{"created":"1970-01-01T00:00:00Z","created_by":"Tools/make-test-images.sh"}]}' \
        "$arch" "$config" "$layer" > "$dir/config"
    digest=$(sha256sum "$dir/config" | cut -d' ' -f1)
    mv "$dir/config" "$dir/$digest.json"
    tags=$(printf '"%s",' "$@")
    printf '[{"Config":"%s.json","RepoTags":[%s],"Layers":["layer.tar"]}]' "$digest" "${tags%,}" > "$dir/manifest.json"
    tar_same "$dir" "$out/$file.tmp"
    mv "$out/$file.tmp" "$out/$file"
    echo "$out/$file: $*"
}

busybox=$(program busybox busybox-static)
path='"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"'

if [ ! -e "$out/busybox.tar" ]; then
    base "$work/busybox"
    image busybox.tar "$work/busybox" "{\"Env\":[$path],\"Cmd\":[\"sh\"]}" docker.io/library/busybox:1.36 docker.io/library/busybox:latest
fi

if [ ! -e "$out/app.tar" ]; then
    base "$work/app"
    # The shell waits for a background sleep: a signal ends the wait at once, and the trap the program.
    app='trap "exit 0" TERM INT; echo started; while :; do sleep 3600 & wait $!; done'
    image app.tar "$work/app" "{\"Env\":[$path],\"Cmd\":[\"sh\",\"-c\",\"${app//\"/\\\"}\"]}" docker.io/library/app:latest
fi

for version in 1.14.2 1.16.1; do
    [ ! -e "$out/nginx-$version.tar" ] || continue
    root=$work/nginx-$version
    nginx=$(program nginx nginx)
    base "$root"
    cp -L "$nginx" "$root/usr/sbin/nginx"
    ldd "$nginx" | grep -o '/[^ ]*' | while read -r library; do
        mkdir -p "$root$(dirname "$library")"
        cp -L "$library" "$root$library"
    done
    mkdir -p "$root"/{etc/nginx/conf.d,usr/share/nginx/html,var/cache/nginx,var/log/nginx,run}
    ln -s ../run "$root/var/run"
    cat > "$root/etc/nginx/nginx.conf" <<'CONF'
user nginx;
worker_processes 1;
error_log /dev/stderr notice;
pid /run/nginx.pid;
events { worker_connections 256; }
http {
    types { text/html html; text/plain txt; text/css css; application/javascript js; application/json json; }
    default_type application/octet-stream;
    access_log /dev/stdout combined;
    sendfile on;
    client_body_temp_path /var/cache/nginx/client;
    proxy_temp_path /var/cache/nginx/proxy;
    fastcgi_temp_path /var/cache/nginx/fastcgi;
    uwsgi_temp_path /var/cache/nginx/uwsgi;
    scgi_temp_path /var/cache/nginx/scgi;
    include /etc/nginx/conf.d/*.conf;
}
CONF
    cat > "$root/etc/nginx/conf.d/default.conf" <<'CONF'
server {
    listen 80;
    server_name localhost;
    root /usr/share/nginx/html;
    index index.html;
}
CONF
    printf '<!DOCTYPE html>\n<html><head><title>Welcome to nginx!</title></head>\n<body><h1>Welcome to nginx!</h1><p>nginx:%s</p></body></html>\n' \
        "$version" > "$root/usr/share/nginx/html/index.html"
    image "nginx-$version.tar" "$root" \
        "{\"Env\":[$path,\"NGINX_VERSION=$version\"],\"Cmd\":[\"nginx\",\"-g\",\"daemon off;\"],\"ExposedPorts\":{\"80/tcp\":{}},\"StopSignal\":\"SIGQUIT\"}" \
        "docker.io/library/nginx:$version"
done
