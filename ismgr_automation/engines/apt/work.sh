# Does one piece of work with exact versions, and tells what it finds in lines. It outlives the connection that asked.
# CALL VERB RUN SECONDS KEEP LEASE TOKEN; CALL is a folder with a file "moves", whose rows are: name, architecture,
# version before or "-" (it is not installed), version after, digest or "-". KEEP: 0 no former versions, 1 those that can
# be had, 2 all or nothing. offers.sh comes before it in one text.
call=$1 verb=$2 run=$3 seconds=$4 keep=$5 lease=$6 token=$7
umask 022
export LC_ALL=C PATH="$PATH:/usr/sbin:/sbin" DEBIAN_FRONTEND=noninteractive APT_LISTCHANGES_FRONTEND=none
# nobody restarts services behind the back of those who plan it
export NEEDRESTART_SUSPEND=1 NEEDRESTART_MODE=l LC_ISMGR_RUN="$run.apt"
home=/var/lib/ismgr/patch/$run
pins=/etc/apt/preferences.d/ismgr-patch
case $verb in
apply | rollback)
    exec >"$call/answer" 2>"$call/words" </dev/null
    # one at a time on a host, whoever asked; who waited in vain for its turn does nothing
    exec 8>>/run/ismgr/lock
    flock -w "$seconds" 8 || exit 0
    mkdir "$call/begun" || exit 0
    ;;
esac
cd "$call" || exit 73
touch moves words

# daemons that a maintainer script starts must not keep our lock
apt() {
    apt-get -q -y -o DPkg::Lock::Timeout="$((seconds / 2))" -o Dpkg::Use-Pty=0 -o Dpkg::Options::=--force-confdef \
        -o Dpkg::Options::=--force-confold -o APT::Get::AutomaticRemove=false "$@" 8>&-
}
said() { tail -n 40 "$1" | sed 's/^/said /'; }
installed() { dpkg-query -W -f '${Package}\t${Architecture}\t${db:Status-Abbrev}\t${Version}\n'; }
# the moves with what is there: name, architecture, before, after, digest, spec, status, version
states() {
    installed >there
    awk -F '\t' -v OFS='\t' '
        part == 1 { exact[$1, $2] = $3 OFS $4; any[$1] = $3 OFS $4; next }
        {
            now = ($1, $2) in exact ? exact[$1, $2] : $1 in any && $3 != "-" ? any[$1] : "un" OFS ""
            print $1, $2, $3, $4, $5, ($2 == "all" ? $1 : $1 ":" $2), now
        }' part=1 there part=2 moves
}
# what apt calls the file of a version
archive() { printf %s "$1_$(printf %s "$2" | sed 's/:/%3a/g')_$3.deb"; }
# where a file of a version is kept: this run, former runs, apt itself
kept() {
    file=$(archive "$1" "$2" "$3")
    for one in "$home/former/$file" /var/lib/ismgr/patch/*/former/"$file" "/var/cache/apt/archives/$file"; do
        if [ -s "$one" ] && [ "$(dpkg-deb -f "$one" Version 2>/dev/null)" = "$2" ]; then
            printf '%s\n' "$one"
            return
        fi
    done
}
journal() {
    printf '%s %s\n' "$(date +%s)" "$*" >>"$home/journal" && sync "$home/journal"
}
finish() {
    states | awk -F '\t' -v OFS='\t' '{ print "state " $1, $2, $3, $4, $7, $8 }'
    dpkg --audit 2>/dev/null | sed 's/^/audit /'
    cut -f 1-3 moves | while IFS='	' read -r name architecture before; do
        [ -n "$(kept "$name" "$before" "$architecture")" ] && echo "former $name"
    done
    [ "$1" = refused ] || [ ! -e "$home/journal" ] || journal "ended $verb $1"
    echo end
    : >"$call/ended"
    exit 0
}
refuse() {
    echo "trouble $1"
    [ -z "$2" ] || said "$2"
    finish refused
}
# what this run was to bring and what never got well goes on the way back, or nothing else could be done on this host
strays() {
    [ "$verb" = rollback ] && [ -s "$home/new" ] || return 0
    awk -F '\t' '
        part == 1 { new[$1, $2] = 1; next }
        ($1, $2) in new && substr($3, 2, 1) !~ /[nci]/ { print $1 "\t" ($2 == "all" ? $1 : $1 ":" $2) }
        ' part=1 "$home/new" part=2 there
}
# what is to be done: rows of states whose version is not there, and well, yet; what this run has done before counts as
# done by us
look() {
    states >states
    strays >strays
    awk -F '\t' '!($8 == $4 && substr($7, 2, 1) == "i")' states >todo
    [ -e "$home/asked" ] && cat "$home/asked" >before
    touch before
    awk -F '\t' -v OFS='\t' '
        part == 1 { asked[$0] = 1; next }
        !($8 == $4 && substr($7, 2, 1) == "i") || ($6 "=" $4) in asked { print "todo " $1, $2 }
        ' part=1 before part=2 states
    awk -F '\t' -v verb="$verb" '
        $3 == "-" && substr($7, 2, 1) ~ /[nc]/ { next }
        $8 != $3 && $8 != $4 && (verb != "rollback" || substr($7, 2, 1) ~ /[nci]/) {
            print $1 " is " ($8 == "" ? "not installed" : $8)
        }' todo >moved
    [ -s moved ] && refuse "moved $(paste -s -d , moved)"
    [ -s todo ] || [ -s strays ] && return 0
    case $verb in apply | rollback) pin || refuse "no-room the pins cannot be written" ;; esac
    finish done
}
# the versions as the signed indexes know them, and the room that they need
offers() {
    cut -f 2 strays | sed 's/$/-/' >specs
    : >asked
    while IFS='	' read -r name architecture before after digest spec status version; do
        file=
        [ "$verb" = rollback ] && file=$(kept "$name" "$after" "$architecture")
        if [ -n "$file" ]; then
            [ "$digest" = - ] || [ "sha256:$(sha256sum <"$file" | cut -d ' ' -f 1)" = "$digest" ] ||
                refuse "digest $name $after is kept with other content"
            printf '%s\n' "$file" >>specs
        else
            printf '%s=%s\n' "$spec" "$after" | tee -a asked >>specs
        fi
    done <todo
    [ -s asked ] || return 0
    xargs apt-cache show <asked >records 2>offers
    awk -F '\t' -v OFS='\t' 'part == 1 { asked[$0] = 1; next } ($6 "=" $4) in asked' part=1 asked part=2 todo >wanted
    awk -F '\t' -v verb="$verb" '
        part == 1 {
            if (match($0, /^[A-Za-z0-9-]+: /)) field[substr($0, 1, RLENGTH - 2)] = substr($0, RLENGTH + 1)
            if ($0 == "") {
                key = field["Package"] SUBSEP field["Version"]
                if (field["SHA256"] != "") {
                    digests[key] = digests[key] " sha256:" field["SHA256"]
                    size[key] = field["Size"] / 1024 + field["Installed-Size"]
                }
                split("", field)
            }
            next
        }
        !(($1, $4) in digests) { print (verb == "rollback" ? "no-former " : "vanished ") $1 " " $4; next }
        $5 != "-" && !index(digests[$1, $4], $5) { print "digest " $1 " " $4 " is offered as" digests[$1, $4] }
        { room += size[$1, $4] }
        END { print "room " int(room) }' part=1 records part=2 wanted >found
    grep -q '^no-former\|^vanished\|^digest' found && refuse "$(grep -v '^room' found | head -n 1)"
    free=$(df -Pk / /usr /var | awk 'NR > 1 && (least == "" || $4 < least) { least = $4 } END { print least }')
    wanted=$(awk '/^room/ { print $2 }' found)
    [ "$wanted" -le "$free" ] || refuse "no-room $wanted KiB are needed, $free are free"
}
# what apt would do, beside what it was asked for
simulate() {
    xargs apt-get -s -q -y -o APT::Get::AutomaticRemove=false -o Debug::NoLocking=true install \
        --no-install-recommends --allow-downgrades <specs >simulated 2>&1 || refuse apt simulated
    awk -F '\t' -v OFS='\t' '
        part == 1 { wanted[$1, $4] = named[$1] = exact[$1, $2, $4] = 1; next }
        part == 2 { goes[$1] = 1; next }
        {
            split($0, word, " ")
            if (word[1] !~ /^(Inst|Remv|Conf)$/) next
            name = word[2]
            sub(/:.*/, "", name)
            if (word[1] == "Inst") here[name] = 1
            if (word[1] == "Conf" && (name in here || name in named)) next
            version = ""
            if (match($0, /\([^ )]+/)) version = substr($0, RSTART + 1, RLENGTH - 1)
            architecture = ""
            if (match($0, /\[[^] ]+\]\)/)) architecture = substr($0, RSTART + 1, RLENGTH - 3)
            fresh = word[1] == "Inst" && word[3] !~ /^\[/
            if (word[1] == "Remv") { if (!(name in goes)) print "-" name, "other" }
            else if (!((name, version) in wanted)) print name "=" version, fresh ? "new" : "other", name, architecture, version
            else if (fresh && !((name, architecture, version) in exact))
                print name ":" architecture "=" version, "new", name, architecture, version
        }' part=1 todo part=2 strays part=3 simulated | sort -u >wider
    [ -s wider ] || return 0
    [ "$verb" != check ] || grep -q '	other' wider || brings
    refuse "wider $(cut -f 1 wider | paste -s -d , -)"
}
# new packages, with what the signed indexes know of them and of what may need them
brings() {
    awk -F '\t' -v OFS='\t' '{ print "brings " $3, $4, $5 }' wider
    echo "architecture $(dpkg --print-architecture)"
    apt-cache policy | sed 's/^/releases /'
    awk -F '\t' '{ print ($4 == "all" ? $3 : $3 ":" $4) }' wider | versions | sed 's/^/versions /'
    awk -F '\t' '{ print ($4 == "all" ? $3 : $3 ":" $4) "=" $5 }' wider | xargs apt-cache show >fresh 2>&1
    cat fresh records | sed -n -E \
        '/^((Package|Source|Version|Architecture|Section|Size|SHA256|Depends|Pre-Depends|Provides): |$)/s/^/records /p'
}
# nobody holds dpkg's lock, or gave it back in time
lock() {
    apt check >locked 2>&1 || { grep -qi 'could not get lock\|unable to acquire' locked && refuse apt locked; }
}
former() {
    [ "$keep" != 0 ] || return 0
    : >"$call/missing"
    mkdir -p "$home/former" && cd "$home/former" || { cd "$call" && refuse "no-room $home cannot be made"; }
    awk -F '\t' '$7 !~ /^.[nc]/ { print $6 "=" $3 }' "$call/todo" | xargs apt-cache show 2>/dev/null |
        awk '/^Package: / { name = $2 } /^Version: / { version = $2 } /^Filename: / { print name "\t" version }' >"$call/had"
    awk -F '\t' 'part == 1 { had[$1, $2] = 1; next } ($1, $3) in had { print $6 "=" $3 }' \
        part=1 "$call/had" part=2 "$call/todo" | xargs -r apt-get -q download >"$call/fetched" 2>&1 ||
        { grep -q 'No space left\|enough free space' "$call/fetched" && cd "$call" && refuse apt fetched; }
    while IFS='	' read -r name architecture before after digest spec status version; do
        [ "$before" != - ] || continue
        file=$(kept "$name" "$before" "$architecture")
        case $file in
        "$home"/*) ;;
        "") command -v dpkg-repack >/dev/null && dpkg-repack "$spec" >/dev/null 2>&1 8>&- ;;
        *) cp "$file" "$home/former/" || { cd "$call" && refuse "no-room $home is full"; } ;;
        esac
        [ "$keep" = 1 ] || [ -n "$(kept "$name" "$before" "$architecture")" ] || echo "$name $before" >>"$call/missing"
    done <"$call/todo"
    cd "$call" || exit 73
    [ ! -s missing ] || refuse "no-former $(head -n 1 missing)"
}
# exact versions of these packages as they are now; what was written for others stays
pin() {
    states | awk -F '\t' 'substr($7, 2, 1) == "i" { print $6 "\t" $8 }' >pinned
    [ -e "$pins" ] && cat "$pins" >pins
    touch pins
    {
        echo "# Exact versions that ismgr installed. Above 1000: apt keeps to them, even where that is a downgrade."
        awk -F '\t' '
            part == 1 { ours["Package: " $1] = 1; next }
            /^Package: / { other = !($0 in ours); if (other) print "" }
            /^[A-Z]/ && other
            ' part=1 pinned part=2 pins
        awk -F '\t' '{ print "\nPackage: " $1 "\nPin: version " $2 "\nPin-Priority: 1001" }' pinned
    } >/etc/apt/.ismgr-patch && sync /etc/apt/.ismgr-patch && mv /etc/apt/.ismgr-patch "$pins"
}
heal() {
    [ -z "$(dpkg --audit 2>/dev/null)" ] && [ -z "$(ls /var/lib/dpkg/updates 2>/dev/null)" ] && return 0
    lock
    dpkg --force-confdef --force-confold --configure -a >healed 2>&1 8>&-
}
ours() { [ -s "$home/journal" ] && tail -n 1 "$home/journal" | grep -q ' installing '; }
# what apt has fetched is what was signed. Repositories may offer one version with different contents, indexes may have
# been read since, and apt takes a file of the right size out of its cache whatever is in it
signed() {
    archives= fetches=false
    eval "$(apt-config shell archives Dir::Cache::archives/d)"
    while IFS='	' read -r name architecture before after digest spec status version; do
        [ "$digest" != - ] || { fetches=true; continue; }
        word=$(archive "$name" "$after" "$architecture")
        file=$archives$word
        # what is unpacked already is configured only
        [ -s "$file" ] || [ "$version" != "$after" ] || continue
        if [ ! -s "$file" ]; then
            # what a source on this host's own disk has is not copied, and counts as not fetched
            fetches=true
            file=$(xargs apt-get -qq -y --print-uris install --no-install-recommends --allow-downgrades <specs 2>&1 |
                sed -n "s|^'file:\([^']*\)' $word .*|\1|p" | sed 's/%2b/+/gI; s/%7e/~/gI; s/%3a/:/gI')
        fi
        [ -s "$file" ] || refuse "digest the file of $name $after cannot be found"
        content="sha256:$(sha256sum <"$file" | cut -d ' ' -f 1)"
        [ "$content" = "$digest" ] || refuse "digest $name $after would be installed from $file, which is $content"
    done <todo
}
install() {
    lock
    xargs apt-get -q -y -o DPkg::Lock::Timeout="$((seconds / 2))" -o APT::Get::AutomaticRemove=false install --download-only \
        --no-install-recommends --allow-downgrades <specs >fetched 2>&1 8>&- || refuse apt fetched
    # what was looked at is installed, and nothing else; files that are kept for the way back count as not fetched
    fetches=true
    [ "$verb" = rollback ] || signed
    awk -F '\t' '{ print $6 "=" $4 }' todo >>"$home/asked"
    awk -F '\t' '$3 == "-" { print $1 "\t" $2 }' todo >>"$home/new"
    # nobody chose by hand what came with others: whoever clears that away later must find it as it was
    apt-mark showauto 2>/dev/null | awk -F '\t' '
        part == 1 { automatic[$1] = 1; next }
        $3 == "-" || $1 in automatic || $6 in automatic { print $6 }' part=1 - part=2 todo >>"$home/automatic"
    journal "installing $verb $(awk -F '\t' '{ print $6 "=" $4 }' todo | paste -s -d ' ')" ||
        refuse "no-room the journal cannot be written"
    echo begun
    # shellcheck disable=SC2046  names and paths have no spaces
    apt -o APT::Get::Download="$fetches" install --no-install-recommends --allow-downgrades $(cat specs) >done 2>&1
    set -- $?
    xargs -r apt-mark auto <"$home/automatic" >/dev/null 2>&1
    return "$1"
}
# what the exact versions alone did not heal, as long as that takes none but our packages
mend() {
    apt-get -s -q -y -o APT::Get::AutomaticRemove=false -o Debug::NoLocking=true --fix-broken --no-remove install \
        >mending 2>&1
    awk '
        part == 1 { ours[$1] = 1; next }
        $1 == "Inst" || $1 == "Remv" { sub(/:.*/, "", $2); if (!($2 in ours)) print $2 }
        ' part=1 moves part=2 mending | sort -u >wider
    if [ -s wider ]; then
        echo "trouble wider $(paste -s -d , wider)"
        said done
        finish failed
    fi
    apt --fix-broken --no-remove install >fixed 2>&1
}
try() {
    if install; then
        pin || { echo "trouble no-room the pins cannot be written"; finish failed; }
        finish done
    fi
}
fenced() {
    [ -n "$lease" ] && [ "$token" != 0 ] || return 0
    fence "$lease" "$token" "$run" >fence 2>&1
    case $? in
    0) ;;
    76) refuse "fenced this host knows a larger token:" fence ;;
    *) refuse apt fence ;;
    esac
}

case $verb in
refresh)
    end=$(($(date +%s) + seconds))
    until apt update -o APT::Update::Error-Mode=any >refreshed 2>&1; do
        # apt waits for dpkg's lock and not for the one of its lists
        if ! grep -q 'lists/lock' refreshed || [ "$(date +%s)" -ge "$end" ]; then
            grep '^[EW]:\|^Err:' refreshed >errors
            refuse apt errors
        fi
        sleep 1
    done
    finish refused
    ;;
check)
    look
    offers
    simulate
    seconds=2
    lock
    finish refused
    ;;
apply)
    fenced
    mkdir -p "$home" || refuse "no-room $home cannot be made"
    if ours; then heal; fi
    look
    offers
    simulate
    former
    try
    pin
    echo "trouble apt"
    said done
    finish failed
    ;;
rollback)
    fenced
    mkdir -p "$home" || refuse "no-room $home cannot be made"
    heal
    look
    offers
    simulate
    try
    mend
    look
    try
    echo "trouble apt"
    said done
    finish failed
    ;;
esac
