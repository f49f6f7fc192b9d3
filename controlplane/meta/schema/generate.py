#!/usr/bin/env python3
"""Writes the schema table: every type of the Kubernetes API that Kijabi serves, its fields and their markers.

usage: generate.py MODULES_DIR VERSION > kubernetes-1.36.txt
MODULES_DIR holds api@VERSION, apimachinery@VERSION, apiextensions-apiserver@VERSION, kube-aggregator@VERSION.
Only facts are taken (names, numbers, types, markers), no text. The format is described in the file's head.
"""
import os, re, sys

HEAD = """\
# The types of the Kubernetes API, one field a line. Written by generate.py; do not edit.
#
# package ALIAS OPENAPI-PREFIX GROUP VERSION     ("-" for no group or version)
# type NAME [kind] [atomic]                      kind: registered under the package's group and version
#   FIELD NUMBER TYPE [flags]                    NUMBER: in protobuf, 0 for none
#   inline NUMBER TYPE                           embedded in JSON, a message of its own in protobuf
# TYPE: string bytes int32 int64 bool double quantity intorstring time microtime duration raw fieldsv1 json any
#       schemaorarray schemaorbool schemaorstrings (the three unions in a CRD's schema)
#       []TYPE, map[]TYPE, NAME (same package), ALIAS.NAME; *TYPE for a pointer; {x} is the name Go prints when not the plain one
# flags: ? omitempty, ?? omitzero too, ! required, list=map|set|atomic, key=K, map=atomic, struct=atomic,
#        merge (patchStrategy), retainKeys, by=K (patchMergeKey), default=JSON
"""
# (module, folder, alias, OpenAPI prefix, group)
API = [("admission/v1", "admission.k8s.io"), ("admissionregistration/v1", "admissionregistration.k8s.io"), ("apidiscovery/v2", "apidiscovery.k8s.io"),
       ("apps/v1", "apps"), ("authentication/v1", "authentication.k8s.io"), ("authorization/v1", "authorization.k8s.io"), ("autoscaling/v1", "autoscaling"),
       ("autoscaling/v2", "autoscaling"), ("batch/v1", "batch"), ("certificates/v1", "certificates.k8s.io"), ("coordination/v1", "coordination.k8s.io"),
       ("core/v1", "-"), ("discovery/v1", "discovery.k8s.io"), ("events/v1", "events.k8s.io"), ("flowcontrol/v1", "flowcontrol.apiserver.k8s.io"),
       ("networking/v1", "networking.k8s.io"), ("node/v1", "node.k8s.io"), ("policy/v1", "policy"), ("rbac/v1", "rbac.authorization.k8s.io"),
       ("resource/v1", "resource.k8s.io"), ("scheduling/v1", "scheduling.k8s.io"), ("storage/v1", "storage.k8s.io")]
PACKAGES = [("apimachinery", "pkg/apis/meta/v1", "meta/v1", "io.k8s.apimachinery.pkg.apis.meta.v1", "meta.k8s.io")]
PACKAGES += [("api", d, d, "io.k8s.api." + d.replace("/", "."), g) for d, g in API]
PACKAGES += [("apiextensions-apiserver", "pkg/apis/apiextensions/v1", "apiextensions/v1", "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1", "apiextensions.k8s.io"),
             ("kube-aggregator", "pkg/apis/apiregistration/v1", "apiregistration/v1", "io.k8s.kube-aggregator.pkg.apis.apiregistration.v1", "apiregistration.k8s.io")]
SCALARS = {"string": "string", "int32": "int32", "int64": "int64", "bool": "bool", "float64": "double", "[]byte": "bytes", "interface{}": "any", "any": "any", "int": "int64", "uint8": "int32", "runtime.Object": "any"}
SPECIAL = {"meta/v1.Time": "time", "meta/v1.MicroTime": "microtime", "meta/v1.Duration": "duration", "meta/v1.FieldsV1": "fieldsv1", "apiextensions/v1.JSON": "json",
           "apiextensions/v1.JSONSchemaPropsOrArray": "schemaorarray", "apiextensions/v1.JSONSchemaPropsOrBool": "schemaorbool", "apiextensions/v1.JSONSchemaPropsOrStringArray": "schemaorstrings"}
FOREIGN = {"resource.Quantity": "quantity", "intstr.IntOrString": "intorstring", "runtime.RawExtension": "raw", "types.UID": "string{types.UID}", "types.NodeName": "string{types.NodeName}"}

class Package:
    def __init__(self, root, module, folder, alias, prefix, group, version):
        self.alias, self.prefix, self.group, self.version = alias, prefix, group, alias.split("/")[1]
        self.structs, self.named, self.kinds, self.imports, self.constants = {}, {}, set(), {}, {}
        base = os.path.join(root, f"{module}@{version}", folder)
        for name in sorted(os.listdir(base)):
            if name.endswith(".go") and not name.endswith("_test.go") and not name.startswith(("zz_generated", "generated.pb", "types_swagger")):
                self.read(open(os.path.join(base, name)).read(), name)

    def read(self, text, name):
        for alias, path in re.findall(r'^(?:import)?\s+(\w+)?\s*"([\w./-]+)"$', text, re.M):
            self.imports[alias or path.split("/")[-1]] = path
        if name == "register.go":
            # Names registered under the group, not those of other groups that the same file adds.
            self.kinds |= set(re.findall(r"^\s+&(\w+)\{\},?$", text, re.M))
        for constant, value in re.findall(r'^\s*(?:const )?(\w+)\s+(?:\w+\s*)?= ("[^"]*"|-?\d+)', text, re.M):
            self.constants[constant] = value
        marks, struct = [], None
        for line in text.split("\n"):
            s = line.strip()
            if s.startswith("//"):
                if s[2:].strip().startswith("+"): marks.append(s[2:].strip()[1:])
                continue
            if struct is None:
                m = re.match(r"type (\w+) struct ?\{(\})?", line)
                if m:
                    self.structs[m[1]] = struct = (list(marks), [])
                    if m[2]: struct = None
                else:
                    m = re.match(r"(?:type )?\s*(\w+) (=? ?(?:\[\]|map\[|string|int32|int64|bool)\S*)$", line) if line.startswith("type ") else None
                    if m: self.named[m[1]] = m[2].lstrip("= ")
                if s: marks = []
                continue
            if line == "}": struct, marks = None, []; continue
            m = re.match(r"(?:(\w+)\s+)?(\*?[\w.\[\]*{}]+)\s+`(.*?)`", s)
            if m: struct[1].append((m[1], m[2], m[3], marks))
            if s: marks = []

class Generator:
    def __init__(self, root, version):
        self.packages = {p[2]: Package(root, *p, version) for p in PACKAGES}

    def alias_of(self, package, qualifier):
        path = package.imports.get(qualifier, "")
        for module, folder, alias, _, _ in PACKAGES:
            if path == f"k8s.io/{module}/{folder}": return alias
        raise SystemExit(f"{package.alias}: what is {qualifier}?")

    def go(self, package, t):
        """The type as Go's reflect prints it."""
        if t.startswith("*"): return "*" + self.go(package, t[1:])
        if t.startswith("[]"): return "[]" + self.go(package, t[2:]) if t != "[]byte" else "[]uint8"
        m = re.match(r"map\[([\w.]+)\](.*)", t)
        if m: return f"map[{self.go(package, m[1])}]{self.go(package, m[2])}"
        if t in ("string", "int32", "int64", "bool", "float64", "int", "uint8"): return t
        if t in ("interface{}", "any"): return "interface {}"
        if "." in t:
            q, n = t.split(".")
            return f"{q if t in FOREIGN or q in ('runtime', 'types') else self.alias_of(package, q).split('/')[1]}.{n}"
        return f"{package.version}.{t}"

    def plain(self, e):
        """What Go prints for an expression without an override."""
        if "{" in e: return e[e.index("{") + 1:e.rindex("}")] if not e.startswith(("[]", "map[]")) else None
        if e.startswith("[]"): p = self.plain(e[2:].lstrip("*")); return p and "[]" + p
        if e.startswith("map[]"): p = self.plain(e[5:]); return p and "map[string]" + p
        return {"bytes": "[]uint8", "double": "float64", "quantity": "resource.Quantity", "intorstring": "intstr.IntOrString", "raw": "runtime.RawExtension",
                "time": "v1.Time", "microtime": "v1.MicroTime", "duration": "v1.Duration", "fieldsv1": "v1.FieldsV1", "json": "v1.JSON", "schemaorarray": "v1.JSONSchemaPropsOrArray", "schemaorbool": "v1.JSONSchemaPropsOrBool", "schemaorstrings": "v1.JSONSchemaPropsOrStringArray", "any": "interface {}"}.get(e) or \
            (e if e in ("string", "int32", "int64", "bool") else None)

    def expr(self, package, t, printed=None):
        """The TYPE of the table for a Go type."""
        if t.startswith("*"): return "*" + self.expr(package, t[1:], printed)
        printed = printed or self.go(package, t)
        def named(e): return e if self.plain(e) == printed else f"{e}{{{printed}}}"
        if t in SCALARS: return named(SCALARS[t])
        if t in FOREIGN: return FOREIGN[t]
        if t.startswith("[]"):
            e = self.expr(package, t[2:])
            return f"[]{e}" if printed == self.go(package, t) else f"[]{{{printed}}}{e}"
        m = re.match(r"map\[([\w.]+)\](.*)", t)
        if m:
            e = self.expr(package, m[2])
            return f"map[]{e}" if printed == f"map[string]{self.go(package, m[2])}" else f"map[]{{{printed}}}{e}"
        home, name = package, t
        if "." in t:
            q, name = t.split(".")
            home = self.packages[self.alias_of(package, q)]
        full = f"{home.alias}.{name}"
        if full in SPECIAL: return SPECIAL[full]
        if name in home.named: return self.expr(home, home.named[name], self.go(package, t))
        if name not in home.structs: raise SystemExit(f"{package.alias}: no type {t}")
        return name if home is package else full

    def default(self, package, value):
        m = re.match(r"ref\((?:[\w./-]+\.)?(\w+)\)", value)
        if not m: return value
        for p in [package, *self.packages.values()]:
            if m[1] in p.constants: return p.constants[m[1]]
        raise SystemExit(f"{package.alias}: what is {value}?")

    def field(self, package, name, t, tags, marks):
        json = re.search(r'json:"([^"]*)"', tags)
        if not json or json[1] == "-": return None
        number = re.search(r'protobuf:"\w+,(\d+)', tags)
        number = number[1] if number else "0"
        label, *options = json[1].split(",")
        if label == "" and (name is None or "inline" in options):
            return f"  inline {number} {self.expr(package, t)}"
        flags = []
        values = lambda key: [x[len(key) + 1:] for x in marks if x.startswith(key + "=")]
        optional = "omitempty" in options or "omitzero" in options or any(x.startswith(("optional", "k8s:optional")) for x in marks)
        if "omitempty" in options or "omitzero" in options: flags.append("??" if "omitzero" in options else "?")
        if "required" in marks or "k8s:required" in marks or not optional: flags.append("!")
        for v in values("listType")[:1] or values("k8s:listType")[:1]: flags.append("list=" + v)
        for v in values("listMapKey") or values("k8s:listMapKey"): flags.append("key=" + v)
        for v in values("mapType")[:1]: flags.append("map=" + v)
        for v in values("structType")[:1]: flags.append("struct=" + v)
        strategy = re.search(r'patchStrategy:"([^"]*)"', tags)
        flags += strategy[1].split(",") if strategy else []
        key = re.search(r'patchMergeKey:"([^"]*)"', tags)
        if key: flags.append("by=" + key[1])
        for v in values("default")[:1]: flags.append("default=" + self.default(package, v))
        return " ".join([f"  {label or name} {number} {self.expr(package, t)}", *flags])

    def write(self, out):
        out.write(HEAD)
        for p in self.packages.values():
            out.write(f"\npackage {p.alias} {p.prefix} {p.group} {p.version}\n")
            for name, (marks, fields) in p.structs.items():
                if f"{p.alias}.{name}" in SPECIAL or not re.match("[A-Z]", name): continue
                lines = [x for x in (self.field(p, *f) for f in fields) if x]
                if not lines and name not in p.kinds and fields: continue
                words = [f"type {name}"] + (["kind"] if name in p.kinds else []) + (["atomic"] if "structType=atomic" in marks else [])
                out.write(" ".join(words) + "\n" + "".join(x + "\n" for x in lines))

Generator(sys.argv[1], sys.argv[2]).write(sys.stdout)
