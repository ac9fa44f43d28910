#!/bin/sh
# Compress each log below a directory, four at a time: sh convert.sh DIRECTORY
#
# Put your converter in place of gzip. If this is killed, start it again: it converts the files
# that were in flight, and those that are new. Each attempt writes to a file of its own, which is
# renamed when it is complete. To look on or to change the number of workers while it works, type
# in another terminal: journal watch convert, or journal tune convert -j 8

find "$1" -name '*.log' -type f -print0 |
    journal run - -0 --key line --job convert --on-interrupted retry -j 4 \
        --timeout 10m --on TimeoutError,SIGKILL=retry --max-attempts 2 --halt 20% \
        -- sh -c 'new=$2.$JOURNAL_ATTEMPT; gzip -c "$1" > "$new" && mv "$new" "$2"' sh {} {.}.gz
code=$?
[ $code != 3 ] || journal errors convert
exit $code
