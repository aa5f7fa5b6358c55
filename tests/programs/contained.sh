#!/bin/sh
# Runs a command as an engine runs it in an image: contained.sh ROOTFS USER:GROUP FOLDER COMMAND… (as root, in a
# mount namespace of its own). The root is read-only, /tmp is a tmpfs. It becomes the command: signals reach that.
set -e
root=$1 user=$2 folder=$3
shift 3
mount --bind "$root" "$root"
mount -t tmpfs tmpfs "$root/tmp"
mount -t proc proc "$root/proc"
mount --rbind /dev "$root/dev"
mount -o remount,bind,ro "$root"
exec chroot --userspec="$user" --groups= "$root" env --chdir="$folder" "$@"
