#!/bin/bash
# Template: run.sh puts in the two paths. Starts edged as daprd for a case of Dapr's suite. The suite gives no data folder and starts a daemon again to see that
# its state survived: the same scheduler address and application id mean the same folder.
key=$PPID
for arg in "$@"; do
	case $arg in
	--app-id=* | --scheduler-host-address=*) key+="_${arg#*=}" ;;
	esac
done
key=${key//[^A-Za-z0-9_.-]/-}
exec "@EDGED@" daprd --data-dir="@DATA@/${key:0:200}" "$@"
