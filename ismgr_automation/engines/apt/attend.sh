# Starts a piece of work of its own on the host and waits for its end; what is lost in between is our connection only.
# VERB RUN SECONDS KEEP LEASE TOKEN; standard input: the moves, a line "@@ work", and the script that does the work.
umask 022
export LC_ALL=C PATH="$PATH:/usr/sbin:/sbin"
verb=$1
end=$(($(date +%s) + $3))
left() { now=$(date +%s) && echo $((end > now ? end - now : 1)); }
base=/run/ismgr
mkdir -p -m 700 "$base" && call=$(mktemp -d "$base/$verb.XXXXXX") || exit 73
awk -v to="$call" '/^@@ work$/ { work = 1; next } { print >(work ? to "/work.sh" : to "/moves") }' || exit 73
case $verb in
refresh | check)
    sh "$call/work.sh" "$call" "$@" 2>&1
    rm -rf "$call"
    exit 0
    ;;
esac
# one at a time on a host, whoever asked: a former call of ours may still be at work
exec 8>>"$base/lock"
if ! flock -w "$(left)" 8; then
    rm -rf "$call"
    echo "running"
    exit 0
fi
exec 8>&-
find "$base" -mindepth 1 -maxdepth 1 -name '*.*' ! -path "$call" -exec rm -rf {} + 2>/dev/null
# a unit of systemd's outlives our session in any case; without systemd a session of its own does where nobody kills it
if ! { [ -d /run/systemd/system ] && systemd-run --quiet --collect --property=KillMode=process \
    sh "$call/work.sh" "$call" "$@" >/dev/null 2>&1; }; then
    setsid sh "$call/work.sh" "$call" "$@" >/dev/null 2>&1 </dev/null &
fi
turn=0
while [ ! -e "$call/began" ] && [ $turn -lt 200 ]; do
    sleep 0.05
    turn=$((turn + 1))
done
exec 8>>"$base/lock"
if flock -w "$(left)" 8; then
    cat "$call/answer"
    [ -e "$call/ended" ] || echo "died"
    rm -rf "$call"
else
    echo "running"
fi
