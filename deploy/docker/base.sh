#!/bin/sh
# Lays out the root of the image in a folder: out of the Debian packages of the machine it runs on, only what a program
# needs to run, no shell and no package manager. Usage: base.sh FOLDER
set -eu

root=$1
packages="libc6 libgcc-s1 libstdc++6 ca-certificates"

# Debian 12 and newer have one /usr.
mkdir -p "$root/usr/lib" "$root/usr/lib64" "$root/usr/bin" "$root/etc/ssl/certs" "$root/var/lib" "$root/tmp"
ln -sfn usr/lib "$root/lib"
ln -sfn usr/lib64 "$root/lib64"
ln -sfn usr/bin "$root/bin"
chmod 1777 "$root/tmp"

for package in $packages; do
    dpkg-query --listfiles "$package" | while read -r file; do
        case $file in
            / | /. | /lib | /lib64 | /bin | /usr/share/* | */gconv/* | */audit/* | /etc/* | /usr/sbin/*) continue ;;
        esac
        if [ -f "$file" ] || [ -L "$file" ]; then
            # What dpkg knows below /lib is in /usr/lib.
            case $file in
                /lib/* | /lib64/*) place=$root/usr$file ;;
                *) place=$root$file ;;
            esac
            mkdir -p "$(dirname "$place")"
            cp --no-dereference --preserve=mode,links "$file" "$place"
        fi
    done
done

# Mozilla's list as it was packaged, without what this machine trusts beside it.
find /usr/share/ca-certificates/mozilla -name '*.crt' | sort | xargs cat > "$root/etc/ssl/certs/ca-certificates.crt"

echo "fishy:x:10001:10001:Fishy Watch:/var/lib/fishy:/usr/sbin/nologin" > "$root/etc/passwd"
echo "fishy:x:10001:" > "$root/etc/group"
echo "hosts: files dns" > "$root/etc/nsswitch.conf"
for package in $packages; do
    dpkg-query --show --showformat='${Package} ${Version}\n' "$package"
done > "$root/etc/packages"
