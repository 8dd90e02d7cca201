# Prints what is known about packages and restarts on one host, in sections. Changes nothing, needs no Python there.
export LC_ALL=C PATH="$PATH:/usr/sbin:/sbin"
section() { printf '@@ %s\n' "$1"; }
packages() {
    dpkg-query -W -f '${db:Status-Abbrev}\t${Package}\t${Architecture}\t${Version}\t${source:Package}\t${source:Version}\t${Section}\n'
}
names() {
    packages | awk -F '\t' -v native="$(dpkg --print-architecture)" '
        substr($1, 2, 1) !~ /[nc]/ { print ($3 == native || $3 == "all") ? $2 : $2 ":" $3 }'
}
# packages that are not installed and that the newest versions would bring: they get an age before anybody asks for them.
# Our own pins do not count here, they name what is there: apt reads a folder of links to all others
coming() {
    parts=$(mktemp -d) || return 0
    find /etc/apt/preferences.d -mindepth 1 -maxdepth 1 ! -name ismgr-patch -exec ln -s {} "$parts" \; 2>/dev/null
    apt-get -s -q -o Debug::NoLocking=true -o Dir::Etc::PreferencesParts="$parts" --no-install-recommends \
        --with-new-pkgs upgrade 2>/dev/null | awk '$1 == "Inst" && $3 !~ /^\[/ { print $2 }'
    rm -rf "$parts"
}
# files that processes have mapped and that are no longer on the disk: pid, file; a pid alone: we may not look at it
replaced() {
    grep -HF ' (deleted)' /proc/[0-9]*/maps 2>&1 | awk '
        { split($0, place, "/"); pid = place[3] }
        /^grep: .*: (Permission denied|Operation not permitted)$/ { print pid; next }
        /^\/proc/ && $2 ~ /x/ {
            line = $0
            sub(/^[^ ]+ +[^ ]+ +[^ ]+ +[^ ]+ +[^ ]+ +/, "", line)
            sub(/ \(deleted\)$/, "", line)
            if (line ~ /^\/(usr|bin|sbin|lib|opt)/ && !((pid, line) in seen)) { seen[pid, line] = 1; print pid "\t" line }
        }'
}
# packages whose files run: the service (or "init": PID 1), and their names. Some paths are known to dpkg without /usr
mapped() {
    grep -H ' r-xp .* /' /proc/[0-9]*/maps 2>/dev/null | awk '
        function unit(pid, file, line, parts, i, found) {
            if (pid == 1) return "init"
            file = "/proc/" pid "/cgroup"
            while (found == "" && (getline line <file) > 0) {
                if (line !~ /^[0-9]+:(name=systemd)?:/ || line ~ /\/user/) continue
                for (i = split(line, parts, "/"); i > 1 && found == ""; i--) if (parts[i] ~ /\.service$/) found = parts[i]
            }
            close(file)
            return found
        }
        part == 1 {
            if (NF != 6) next
            split($0, place, "/")
            if (!(place[3] in units)) units[place[3]] = unit(place[3])
            name = units[place[3]]
            # that it could be looked at is told also where it is of no package
            if (name == "init") found[name] = found[name] ""
            sub(/^\/usr\//, "/", $6)
            if (name != "" && !(($6, name) in runs)) { runs[$6, name] = 1; users[$6] = users[$6] "\t" name }
            next
        }
        {
            sub(/^\/usr\//, "/")
            if (!($0 in users)) next
            package = FILENAME
            sub(/.*\//, "", package)
            sub(/(:[^:]*)?\.list$/, "", package)
            count = split(users[$0], names, "\t")
            for (i = 2; i <= count; i++)
                if (!((names[i], package) in seen)) {
                    seen[names[i], package] = 1
                    found[names[i]] = found[names[i]] " " package
                }
        }
        END { for (name in found) print name "\t" substr(found[name], 2) }' part=1 - part=2 /var/lib/dpkg/info/*.list
}

section os
cat /etc/os-release 2>/dev/null || cat /usr/lib/os-release 2>/dev/null
command -v dpkg-query >/dev/null && command -v apt-cache >/dev/null || { section not-debian; section end; exit 0; }
section kernel
uname -r
uname -v
section container
if [ -e /run/.containerenv ] || [ -e /.dockerenv ] || [ -s /run/systemd/container ]; then echo yes; fi
section boot
cat /proc/sys/kernel/random/boot_id
cat /proc/1/stat
section packages
packages
section architecture
dpkg --print-architecture
section releases
apt-cache policy
section versions
offered=$({ names && coming; } | versions)
printf '%s\n' "$offered"
section records
printf '%s\n' "$offered" | awk -F '\t' 'NF > 1 && !seen[$1 "=" $2]++ { print $1 "=" $2 }' | xargs -r apt-cache show |
    grep -E '^(Package|Source|Version|Architecture|Section|Size|SHA256): |^$'
section audit
dpkg --audit
section lists
find /var/lib/apt/lists -maxdepth 1 -name '*Release' -printf '%C@\n' 2>/dev/null
section replaced
stale=$(replaced)
printf '%s\n' "$stale"
section init
head -c 1 /proc/1/maps 2>/dev/null
echo
section units
for pid in $(printf '%s\n' "$stale" | awk -F '\t' 'NF == 2 { print $1 }' | sort -un); do
    printf '%s\t%s\t%s\n' "$pid" "$(cat "/proc/$pid/comm")" "$(tr '\n' ' ' <"/proc/$pid/cgroup")"
done 2>/dev/null
section mapped
mapped
section needrestart
if [ "$(id -u)" = 0 ] && command -v needrestart >/dev/null; then needrestart -b -r l 2>/dev/null </dev/null; fi
section reboot-required
if [ -e /run/reboot-required ]; then echo yes; cat /run/reboot-required.pkgs 2>/dev/null; fi
section free
df -Pk / /usr /var 2>/dev/null | awk 'NR > 1 { print $4 }'
section end
