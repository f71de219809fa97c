# Runs on the server, under any POSIX sh, from standard input. Writes nothing to any file.
#
# Says:   autosync-hub-1     I am here, send the orders
#         ready              the orders are carried out, the beat may begin
#         t N ID             the branch of order N names this commit (-: there is none)
#         m N                there is no repository for order N
#         p                  answer to a beat
# Hears:  w N BRANCH PATH    watch this
#         go                 these were all
#         p                  a beat
# It ends when its input ends, or when no beat was heard for @LIMIT@ x @STEP@ seconds.

main() {
    LC_ALL=C
    export LC_ALL
    cd
    count=0
    op=
    echo autosync-hub-1
    while IFS=' ' read -r op number branch path; do
        case $op in
        w)
            count=$((count + 1))
            case $path in
            '~') path=$HOME ;;
            '~/'*) path=$HOME/${path#'~/'} ;;
            esac
            eval "number_$count=\$number branch_$count=\$branch path_$count=\$path"
            eval "dir_$count= tip_$count= list_$count= pack_$count= packed_$count="
            ;;
        go) break ;;
        esac
    done
    [ "$op" = go ] || exit 0
    watch &
    watcher=$!
    tick $$ $watcher &
    ticker=$!
    while IFS=' ' read -r op; do
        case $op in
        p)
            kill -USR1 $ticker 2>/dev/null || break
            echo p
            ;;
        esac
    done
    kill $ticker $watcher 2>/dev/null
    exit 0
}

# Ends everything when nobody has beaten for too long.
tick() {
    silence=0
    trap 'silence=0' USR1
    echo ready
    while [ $silence -lt @LIMIT@ ]; do
        sleep @STEP@ || sleep 1
        silence=$((silence + 1))
    done
    kill "$1" "$2" 2>/dev/null
}

watch() {
    events=$(command -v inotifywait)
    rounds=0
    while kill -0 $$ 2>/dev/null; do
        if [ $rounds -eq 0 ]; then
            locate
            rounds=16
        fi
        rounds=$((rounds - 1))
        look
        set --
        index=0
        while [ $index -lt $count ]; do
            index=$((index + 1))
            eval "dir=\$dir_$index rest=\$branch_$index"
            [ -n "$dir" ] || continue
            set -- "$@" "$dir"
            [ ! -d "$dir/reftable" ] || set -- "$@" "$dir/reftable"
            below=$dir/refs/heads
            while [ -d "$below" ]; do
                set -- "$@" "$below"
                case $rest in
                */*) below=$below/${rest%%/*} rest=${rest#*/} ;;
                *) break ;;
                esac
            done
        done
        if [ -n "$events" ] && [ $# -gt 0 ]; then
            # It ends by itself after a silence, so that nothing stays when all else is gone.
            inotifywait -m -t @QUIET@ -e create -e moved_to -e close_write -e delete \
                -e delete_self -e move_self --format '%e %f' "$@" 2>&1 | listen || events=
            rounds=0
        elif [ $# -gt 0 ]; then
            sleep 0.3 2>/dev/null || sleep 1
        else
            sleep 5
            rounds=0
        fi
    done
}

# Looks at everything whenever a line comes. Fails if the watches were refused.
listen() {
    heard=1
    while read -r line; do
        kill -0 $$ 2>/dev/null || return 0
        case $line in
        # What came too early for the watches is seen by the look that follows.
        'Watches established.') heard=0 ;;
        *.lock) continue ;;
        esac
        [ $heard -eq 0 ] || continue
        look
        case $line in
        *ISDIR* | *_SELF*) return 0 ;;
        esac
    done
    return $heard
}

# Finds the repositories that were not there before, in git's own order.
locate() {
    index=0
    while [ $index -lt $count ]; do
        index=$((index + 1))
        eval "number=\$number_$index path=\$path_$index dir=\$dir_$index old=\$tip_$index"
        [ -z "$dir" ] || continue
        for dir in "$path/.git" "$path" "$path.git/.git" "$path.git"; do
            [ ! -f "$dir/HEAD" ] || [ ! -d "$dir/objects" ] || break
            dir=
        done
        eval "dir_$index=\$dir"
        if [ -z "$dir" ] && [ "$old" != gone ]; then
            eval "tip_$index=gone"
            echo "m $number"
        fi
    done
}

# Says every branch that moved.
look() {
    index=0
    while [ $index -lt $count ]; do
        index=$((index + 1))
        eval "number=\$number_$index branch=\$branch_$index dir=\$dir_$index old=\$tip_$index"
        [ -n "$dir" ] || continue
        read_tip
        [ "$tip" != "$old" ] || continue
        eval "tip_$index=\$tip"
        if [ "$tip" = gone ]; then
            eval "dir_$index="
            echo "m $number"
        else
            echo "t $number $tip"
        fi
    done
}

# Sets tip: an id, - for no such branch, gone for no repository. Starts a program only if the
# branch is packed or in a reftable.
read_tip() {
    if [ -f "$dir/reftable/tables.list" ]; then
        list=
        while read -r table; do list="$list $table"; done <"$dir/reftable/tables.list"
        eval "known=\$list_$index"
        tip=$old
        if [ "$list" != "$known" ]; then
            tip=$(git --git-dir="$dir" rev-parse --verify --quiet "refs/heads/$branch" 2>/dev/null)
            tip=${tip:--}
            eval "list_$index=\$list"
        fi
        return
    fi
    tip=
    if [ -f "$dir/refs/heads/$branch" ]; then
        read -r tip 2>/dev/null <"$dir/refs/heads/$branch"
        [ -z "$tip" ] || return
    fi
    if [ -f "$dir/packed-refs" ]; then
        stamp=$(ls -dil "$dir/packed-refs" 2>/dev/null)
        eval "known=\$pack_$index tip=\$packed_$index"
        if [ "$stamp" != "$known" ]; then
            tip=-
            while read -r id name; do
                [ "$name" != "refs/heads/$branch" ] || tip=$id
            done 2>/dev/null <"$dir/packed-refs"
            eval "pack_$index=\$stamp packed_$index=\$tip"
        fi
        return
    fi
    tip=-
    [ -d "$dir/objects" ] || tip=gone
}

main; exit
