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
# what killed calls left; /run is small
find "$base" -mindepth 1 -maxdepth 1 -name '*.*' -mmin +1440 -exec rm -rf {} + 2>/dev/null
# a unit of systemd's outlives our session in any case; without systemd a session of its own does where nobody kills it
if ! { [ -d /run/systemd/system ] && systemd-run --quiet --collect --property=KillMode=process \
    --unit="ismgr-${call##*/}" sh "$call/work.sh" "$call" "$@" >/dev/null 2>&1; }; then
    setsid sh "$call/work.sh" "$call" "$@" >/dev/null 2>&1 </dev/null &
fi
# it begins when what is at work on this host already, a former call of ours too, has ended
turns=$(($(left) * 10))
while [ ! -e "$call/begun" ] && [ $turns -gt 0 ]; do
    sleep 0.1
    turns=$((turns - 1))
done
# either it begins or we give up, never both
if mkdir "$call/begun" 2>/dev/null; then
    printf '%s\n' "trouble locked other work of ours on this host did not end in time" end
    exit 0
fi
exec 8>>"$base/lock"
if flock -w "$(left)" 8; then
    cat "$call/answer"
    [ -e "$call/ended" ] || echo "died"
    rm -rf "$call"
else
    echo "running"
fi
