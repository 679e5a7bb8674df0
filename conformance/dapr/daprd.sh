#!/bin/bash
# Template: run.sh puts in the two paths. Starts edged as daprd for a case of Dapr's suite. The suite gives no data folder and starts a daemon again to see that
# its state survived: the same scheduler address and application id mean the same folder. Without a scheduler the port
# tells apart what runs at the same time under one id.
key=$PPID port='' scheduler=''
for arg in "$@"; do
	case $arg in
	--app-id=*) key+="_${arg#*=}" ;;
	--scheduler-host-address=*) scheduler=${arg#*=} scheduler=${scheduler//[\" ]/} ;;
	--dapr-http-port=*) port=${arg#*=} ;;
	esac
done
key+="_${scheduler:-$port}"
key=${key//[^A-Za-z0-9_.-]/-}
exec "@EDGED@" daprd --data-dir="@DATA@/${key:0:200}" "$@"
