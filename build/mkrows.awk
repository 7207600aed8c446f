# Reads the rows off the sources of a module: one line each, fields parted by tabs.
#   row NAME SYNTAX DEFAULT WHERE        a directive or a section
#   option NAME KEY DEFAULT TEXT         of a row
#   variable NAME TYPE KNOWN TEXT
# A row made by a macro of its own has its name alone; one that makes several rows, and whose
# #define is among the sources, is read as they are, and so is a text that is a #define SL_.
# What a row without a default does by itself stands in its help, behind "by default".

function trim(s) { sub(/^[ \t\n]+/, "", s); sub(/[ \t\n]+$/, "", s); return s }

# Parts s at the commas outside quotes and brackets.
function parts(s, to,    i, c, depth, quoted, n, part) {
    n = depth = quoted = 0
    part = ""
    for (i = 1; i <= length(s); i++) {
        c = substr(s, i, 1)
        if (quoted) {
            if (c == "\\") { part = part c; c = substr(s, ++i, 1) }
            else if (c == "\"") quoted = 0
        } else if (c == "\"") quoted = 1
        else if (c == "(" || c == "{") depth++
        else if (c == ")" || c == "}") depth--
        else if (c == "," && depth == 0) { to[++n] = trim(part); part = ""; continue }
        part = part c
    }
    if (trim(part) != "") to[++n] = trim(part)
    return n
}

function text(s) {
    if (s in string_of) s = string_of[s]
    if (s !~ /^"/) return ""
    gsub(/"[ \t\n]+"/, "", s)
    s = substr(s, 2, length(s) - 2)
    gsub(/\\"/, "\"", s)
    gsub(/\\\\/, "\\", s)
    return s
}

function add(list, s) { return list == "" ? s : list ", " s }

function where_text(s, table,    list, name) {
    if (table in section_of) return "<" section_of[table] ">"
    for (name in defined) if (s == name) s = defined[name]
    if (s ~ /SL_IN_ANY/) s = "SL_IN_GLOBAL SL_IN_HOST SL_IN_LOCATION"
    if (s ~ /SL_IN_/) list = "outside all sections"
    if (s ~ /SL_IN_HOST/) list = add(list, "<VirtualHost>")
    if (s ~ /SL_IN_LOCATION/) list = add(list, "<Location>")
    return list
}

function row(name, syntax, init, where, help) {
    if (name == "" || name in had) return
    had[name] = 1
    if (init == "" && match(help, /by default .*/)) init = substr(help, RSTART + 11)
    print "row\t" name "\t" name (syntax != "" ? " " syntax : "") "\t" init "\t" where
}

function option_rows(name, table,    i) {
    for (i = 1; i <= n_options[table]; i++) print "option\t" name "\t" options[table, i]
}

function directive(entry, table,    a, n, macro, name) {
    macro = entry
    sub(/[ (].*/, "", macro)
    if (entry ~ /^\{/) entry = substr(entry, 2, length(entry) - 2)
    else { sub(/^[A-Z_]+ *\(/, "", entry); sub(/\)$/, "", entry) }
    n = parts(entry, a)
    name = text(a[1])
    if (macro ~ /^\{/)
        row(name, text(a[7]), text(a[5]), where_text(a[3], table), text(a[6]))
    else if (macro == "SL_ENUM")
        row(name, text(a[7]), text(a[4]), where_text(a[5], table), text(a[8]))
    else if (macro == "SL_OPTIONS") {
        row(name, text(a[4]), "", where_text(a[3], table), text(a[5]))
        option_rows(name, a[2])
    } else if (macro == "SL_COND")
        row(name, "CONDITION", "", where_text(a[5], table), text(a[6]))
    else if (macro == "SL_LINES" || macro == "SL_RULES" || macro == "SL_PARSED")
        row(name, text(a[6]), "", where_text(a[5], table), text(a[7]))
    else if (macro in syntax_of)
        row(name, syntax_of[macro], text(a[4]), where_text(a[5], table), text(a[6]))
    else
        row(name, "", "", "", "")
}

# The rows of a macro, its one parameter replaced by what it is called with.
function made_rows(entry, table,    macro, n, list, i, s) {
    macro = entry
    sub(/ *\(.*/, "", macro)
    if (!(macro in rows_of)) return 0
    sub(/^[A-Z_]+ *\(/, "", entry)
    sub(/\)$/, "", entry)
    s = rows_of[macro]
    gsub(parameter_of[macro] " \"", entry " \"", s)
    n = parts(s, list)
    for (i = 1; i <= n; i++) directive(list[i], table)
    return 1
}

function member(entry, key,    s) {
    if (!match(entry, "\\." key " = ")) return ""
    s = substr(entry, RSTART + RLENGTH)
    if (s ~ /^"/) { match(s, /^("([^"\\]|\\.)*"[ \t\n]*)+/); return trim(substr(s, 1, RLENGTH)) }
    sub(/[,}].*/, "", s)
    return trim(s)
}

function section(entry,    name) {
    name = text(member(entry, "name"))
    if (name == "" || name in had) return
    had[name] = 1
    print "row\t" name "\t<" name (text(member(entry, "args")) != "" ? " " text(member(entry, "args")) : "") \
          ">\t\t" where_text(member(entry, "where"), "")
}

function variable(entry,    a, n, known, type) {
    if (entry ~ /^\{/) {
        n = parts(substr(entry, 2, length(entry) - 2), a)
        a[1] = text(a[1])
        a[6] = a[7]
    } else { sub(/^[A-Z_]+ *\(/, "", entry); sub(/\)$/, "", entry); n = parts(entry, a) }
    if (a[1] == "") return
    sub(/^SL_PHASE_/, "", a[3])
    sub(/^SL_TYPE_/, "", a[4])
    if (text(a[6]) == "") {
        print FILENAME ": the variable " a[1] " is not in a form this reads" > "/dev/stderr"
        exit 1
    }
    print "variable\t" a[1] (a[2] == "1" ? ":NAME" : "") "\t" tolower(a[4]) "\t" known_of[a[3]] "\t" text(a[6])
}

function option(entry, table,    a, n, i, s, k) {
    sub(/^[A-Z_]+ *\(/, "", entry)
    sub(/^\{/, "", entry)
    sub(/[)}]$/, "", entry)
    n = parts(entry, a)
    k = 0
    for (i = 1; i <= n; i++) if (a[i] ~ /^"/) s[++k] = text(a[i])
    if (k > 0) options[table, ++n_options[table]] = s[1] "\t" (k > 2 ? s[2] : "") "\t" s[k]
}

BEGIN {
    split("FLAG on|off NUMBER N SIZE SIZE DURATION TIME RATE RATE STRING TEXT TOKEN TOKEN EXPR EXPR", p, " ")
    for (i = 1; i in p; i += 2) syntax_of["SL_" p[i]] = p[i + 1]
    syntax_of["SL_LIST"] = "WORD ..."
    syntax_of["SL_NETS"] = "NET ..."
    known_of["CONNECTION"] = "the connection is"
    known_of["REQUEST"] = "the request is"
    known_of["ROUTED"] = "the request is routed"
    known_of["RESPONSE"] = "the response is"
    known_of["LOG"] = "the request is over"
}
FNR == 1 { again = (FILENAME in read_before); read_before[FILENAME] = 1 }
again { next }
rows_macro != "" || /^#define SL_[A-Z]+_ROWS\(/ {
    if (rows_macro == "") {
        rows_macro = parameter = $2
        sub(/\(.*/, "", rows_macro)
        sub(/^[A-Z_]+\(/, "", parameter)
        sub(/\)$/, "", parameter)
        parameter_of[rows_macro] = parameter
        sub(/^#define [^)]*\)/, "")
    }
    is_last = !/\\$/
    sub(/ *\\$/, "")
    rows_of[rows_macro] = rows_of[rows_macro] $0 "\n"
    if (is_last) rows_macro = ""
    next
}
/^#define [A-Z_]+ .*SL_IN_/ { name = $2; $1 = $2 = ""; defined[name] = $0; next }
string_name != "" || /^#define SL_[A-Z_]+ +\\$/ { # a text that goes on in the lines below
    if (string_name == "") string_name = $2
    else {
        is_last = !/\\$/
        sub(/ *\\$/, "")
        string_of[string_name] = trim(string_of[string_name] " " trim($0))
        if (is_last) string_name = ""
    }
    next
}
/struct sl_(directive|section|option|variable) [a-z_]*\[\] = \{/ {
    kind = $0
    sub(/.*struct sl_/, "", kind)
    table = kind
    sub(/ .*/, "", kind)
    sub(/^[a-z]* /, "", table)
    sub(/\[.*/, "", table)
    body = ""
    next
}
kind != "" && /^};/ {
    gsub(/\/\*([^*]|\*+[^*\/])*\*+\//, "", body)
    n_tables++
    kinds[n_tables] = kind
    tables[n_tables] = table
    bodies[n_tables] = body
    kind = ""
}
kind != "" { body = body $0 "\n" }
END { # sections say whose rows a table has, options stand before the rows that have them
    for (t = 1; t <= n_tables; t++) {
        n = parts(bodies[t], list)
        for (i = 1; i <= n; i++) {
            if (kinds[t] == "option") option(list[i], tables[t])
            if (kinds[t] == "section" && member(list[i], "directives") != "")
                section_of[member(list[i], "directives")] = text(member(list[i], "name"))
        }
    }
    for (t = 1; t <= n_tables; t++) {
        n = parts(bodies[t], list)
        for (i = 1; i <= n; i++) {
            if (list[i] ~ /^SL_[A-Z]*_END$/) continue
            if (kinds[t] == "section") section(list[i])
            if (kinds[t] == "directive" && !made_rows(list[i], tables[t])) directive(list[i], tables[t])
            if (kinds[t] == "variable") variable(list[i])
        }
    }
}
