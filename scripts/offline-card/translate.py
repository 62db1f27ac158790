#!/usr/bin/env python3
"""Translates the PTX of one module to C, which runs it on the host thread by thread (kernel.h, emulator.c).

Only what the kernels of this project and of Burn ask for is known; anything else is an error that names it.
"""
import re
import sys

SIZES = {'pred': 1, 'b8': 1, 'u8': 1, 's8': 1, 'b16': 2, 'u16': 2, 's16': 2, 'f16': 2, 'bf16': 2, 'b32': 4, 'u32': 4,
         's32': 4, 'f32': 4, 'f16x2': 4, 'bf16x2': 4, 'b64': 8, 'u64': 8, 's64': 8, 'f64': 8}
C = {'pred': 'uint8_t', 'b8': 'uint8_t', 'u8': 'uint8_t', 's8': 'int8_t', 'b16': 'uint16_t', 'u16': 'uint16_t',
     's16': 'int16_t', 'f16': 'uint16_t', 'bf16': 'uint16_t', 'b32': 'uint32_t', 'u32': 'uint32_t', 's32': 'int32_t',
     'f32': 'float', 'f16x2': 'uint32_t', 'bf16x2': 'uint32_t', 'b64': 'uint64_t', 'u64': 'uint64_t',
     's64': 'int64_t', 'f64': 'double'}
SPECIAL = {f'%{name}.{axis}': f'e->{name}[{at}]' for name in ('tid', 'ntid', 'ctaid', 'nctaid')
           for at, axis in enumerate('xyz')}
SPECIAL.update({'%laneid': '(e->lane)', '%warpid': '(e->warp)', 'WARP_SZ': '32'})
COMPARE = {'eq': '==', 'ne': '!=', 'lt': '<', 'le': '<=', 'gt': '>', 'ge': '>=', 'lo': '<', 'ls': '<=', 'hi': '>', 'hs': '>='}


class Fault(Exception):
    pass


def statements(text):
    """(kind, text) of open, close, label and statement."""
    at, n = 0, len(text)
    while True:
        while at < n and text[at].isspace():
            at += 1
        if at >= n:
            return
        c = text[at]
        if c == '{':
            yield 'open', ''
            at += 1
        elif c == '}':
            yield 'close', ''
            at += 1
        elif (m := re.compile(r'([$\w]+):(?!:)').match(text, at)):
            yield 'label', m.group(1)
            at = m.end()
        elif re.compile(r'\.(loc|file|pragma|section)\b').match(text, at):
            at = text.find('\n', at)
        else:
            end = text.find(';', at)
            yield 'statement', ' '.join(text[at:end].split())
            at = end + 1


def operands(text):
    found, depth, last = [], 0, ''
    for c in text:
        if c in '{[(':
            depth += 1
        if c in '}])':
            depth -= 1
        if c == ',' and not depth:
            found.append(last.strip())
            last = ''
        else:
            last += c
    if last.strip():
        found.append(last.strip())
    return found


class Kernel:
    def __init__(self, name, params, body, shared):
        self.name, self.regs, self.lines, self.pc, self.waits = name, [{}], [], 0, False
        self.shared, self.static, self.locals = dict(shared), 0, {}
        self.params, at = {}, 0
        self.layout = []
        for p in params:
            m = re.match(r'\.param (?:\.align (\d+) )?\.(\w+)(?: \.ptr.*?)? ([$\w]+)(?:\[(\d+)\])?$', p)
            if not m:
                raise Fault(f'parameter {p}')
            size = SIZES[m.group(2)] * int(m.group(4) or 1)
            align = int(m.group(1) or SIZES[m.group(2)])
            at = (at + align - 1) // align * align
            self.params[m.group(3)] = at
            self.layout.append((at, size))
            at += size
        self.param_bytes = at
        for kind, text in statements(body):
            if kind == 'open':
                self.regs.append({})
                self.lines.append('{')
            elif kind == 'close':
                self.regs.pop()
                self.lines.append('}')
            elif kind == 'label':
                self.lines.append(f'{text}: ;')
            else:
                self.statement(text)

    # Registers and operands.
    def kind(self, name):
        for scope in reversed(self.regs):
            if name in scope:
                return scope[name]
            base = name.rstrip('0123456789')
            if base in scope and scope[base][1]:
                return (scope[base][0], True)
        return None

    def var(self, name):
        return 'v_' + name.replace('%', '')

    def get(self, text, kind):
        negative = text.startswith('!')
        if negative:
            return f'(!{self.get(text[1:], kind)})'
        if text in SPECIAL:
            return f'(({C[kind]}){SPECIAL[text]})'
        found = self.kind(text)
        if found:
            has = found[0]
            name = self.var(text)
            if has in ('f32', 'f64'):
                if kind == has:
                    return name
                if kind == 'f32' or kind == 'f64':
                    raise Fault(f'{text} is {has}, read as {kind}')
                bits = 'f2u' if has == 'f32' else 'd2u'
                return f'(({C[kind]}){bits}({name}))'
            if kind == 'f32':
                return f'u2f({name})'
            if kind == 'f64':
                return f'u2d({name})'
            return f'(({C[kind]}){name})'
        if (m := re.fullmatch(r'0[fF]([0-9a-fA-F]{8})', text)):
            return f'u2f(0x{m.group(1)}u)' if kind == 'f32' else f'((double)u2f(0x{m.group(1)}u))' if kind == 'f64' else f'(({C[kind]})0x{m.group(1)}u)'
        if (m := re.fullmatch(r'0[dD]([0-9a-fA-F]{16})', text)):
            return f'u2d(0x{m.group(1)}ull)'
        if re.fullmatch(r'-?(0x[0-9a-fA-F]+|\d+)U?', text):
            number = text.rstrip('U')
            if kind == 'f32':
                return f'u2f({number}u)'
            if number == '-9223372036854775808':
                number = '(-9223372036854775807-1)'
            return f'(({C[kind]}){number}{"" if number.endswith(")") else "ull" if not number.startswith("-") else "ll"})'
        if text in self.params:
            return f'(uint64_t)(e->params + {self.params[text]})'
        if text in self.shared:
            return f'(({C[kind]}){self.shared_at(text)})'
        if text in self.locals:
            return f'(uint64_t)({self.locals[text]})'
        raise Fault(f'operand {text}')

    def shared_at(self, name):
        return f'SH_{name}'

    def put(self, text, kind, value):
        if text == '_':
            self.emit(f'(void)({value});')
            return
        found = self.kind(text)
        if not found:
            raise Fault(f'destination {text}')
        has, name = found[0], self.var(text)
        if has in ('f32', 'f64'):
            if kind == has:
                self.emit(f'{name} = {value};')
            else:
                self.emit(f'{name} = {"u2f" if has == "f32" else "u2d"}(({C["b32" if has == "f32" else "b64"]})({value}));')
        elif kind == 'f32':
            self.emit(f'{name} = f2u({value});')
        elif kind == 'f64':
            self.emit(f'{name} = d2u({value});')
        else:
            self.emit(f'{name} = ({C[has]})({C[kind]})({value});')

    def emit(self, line):
        self.lines.append(line)

    def address(self, text, space):
        m = re.fullmatch(r'\[([$%\w]+)(?:\+(-?\d+))?\]', text)
        if not m:
            raise Fault(f'address {text}')
        base, off = m.group(1), int(m.group(2) or 0)
        if space == 'param':
            if base in self.params:
                return f'(e->params + {self.params[base] + off})'
            return f'((char *)({self.get(base, "b64")} + {off}ll))'
        if space == 'shared':
            if base in self.shared:
                return f'(e->shared + IN(SH_{base} + {off}))'
            return f'(e->shared + IN((uint32_t){self.get(base, "b32")} + {off}))'
        if space == 'local' and base in self.locals:
            return f'((char *){self.locals[base]} + {off})'
        if base in self.shared:
            return f'(e->shared + IN(SH_{base} + {off}))'
        return f'((char *)({self.get(base, "b64")} + {off}ll))'

    def statement(self, text):
        if text.startswith('.reg'):
            m = re.match(r'\.reg *\.(\w+) (.*)$', text)
            for name in operands(m.group(2)):
                if (p := re.fullmatch(r'(%?[$\w]+?)<(\d+)>', name)):
                    self.regs[-1][p.group(1)] = (m.group(1), True)
                    for n in range(int(p.group(2))):
                        self.regs[-1][f'{p.group(1)}{n}'] = (m.group(1), False)
                    names = [f'{p.group(1)}{n}' for n in range(int(p.group(2)))]
                else:
                    self.regs[-1][name] = (m.group(1), False)
                    names = [name]
                self.emit(f'{C[m.group(1)]} ' + ', '.join(f'{self.var(n)} = 0' for n in names) + ';')
            return
        if (m := re.match(r'\.(shared|local) (?:\.align (\d+) )?\.(\w+) ([$\w]+)(?:\[(\d+)\])?$', text)):
            size = SIZES[m.group(3)] * int(m.group(5) or 1)
            if m.group(1) == 'local':
                self.locals[m.group(4)] = m.group(4)
                self.emit(f'char {m.group(4)}[{size}] __attribute__((aligned(16)));')
            else:
                self.shared[m.group(4)] = (size, int(m.group(2) or 16))
            return
        guard = None
        if (m := re.match(r'@(!?)(%?[$\w]+) (.*)$', text)):
            guard, text = f'{"!" if m.group(1) else ""}{self.var(m.group(2))}', m.group(3)
        op, _, rest = text.partition(' ')
        self.pc += 1
        if guard:
            self.emit(f'if ({guard}) {{')
        try:
            self.instruction(op.split('.'), operands(rest), text)
        except (Fault, KeyError, IndexError, ValueError) as error:
            raise Fault(f'{text}: {error!r}')
        if guard:
            self.emit('}')

    def instruction(self, op, o, text):
        name, kind = op[0], op[-1]
        get, put = self.get, self.put
        mods = set(op[1:])
        if name == 'bra':
            self.emit(f'goto {o[0]};')
        elif name in ('ret', 'exit'):
            self.emit('return;')
        elif name == 'trap':
            self.emit('e->trap(e);')
        elif name in ('membar', 'fence'):
            self.emit('__sync_synchronize();')
        elif name in ('bar', 'barrier'):
            if o and o[0] != '0' or len(o) > 1:
                raise Fault('a named barrier')
            self.waits = True
            if 'warp' in mods:
                self.emit(f'e->warp_sync(e, {self.pc}, 0xffffffffu);')
            else:
                self.emit(f'e->barrier(e, {self.pc});')
        elif name == 'mov':
            if o[1].startswith('{'):
                parts = operands(o[1][1:-1])
                bits = SIZES[kind] * 8 // len(parts)
                whole = ' | '.join(f'(({C[kind]}){get(p, f"b{bits}")} << {bits * n})' for n, p in enumerate(parts))
                put(o[0], kind, f'({whole})')
            elif o[0].startswith('{'):
                parts = operands(o[0][1:-1])
                bits = SIZES[kind] * 8 // len(parts)
                self.emit(f'{{ {C[kind]} whole = {get(o[1], kind)};')
                for n, p in enumerate(parts):
                    put(p, f'b{bits}', f'(whole >> {bits * n})')
                self.emit('}')
            else:
                put(o[0], kind, get(o[1], kind))
        elif name in ('ld', 'ldu', 'st'):
            space = next((s for s in op[1:] if s in ('param', 'global', 'shared', 'local', 'const')), 'generic')
            place, data = (o[1], o[0]) if name != 'st' else (o[0], o[1])
            parts = operands(data[1:-1]) if data.startswith('{') else [data]
            at = self.address(place, space)
            if space == 'global':
                at = f'in_global(e, {at}, {SIZES[kind] * len(parts)})'
            self.emit(f'{{ char *at = {at}; ALIGNED(at, {SIZES[kind] * len(parts)});')
            for n, p in enumerate(parts):
                if name == 'st':
                    self.emit(f'*({C[kind]} *)(at + {n * SIZES[kind]}) = {get(p, kind)};')
            if name != 'st':
                for n, p in enumerate(parts):
                    self.emit(f'{C[kind]} t{n} = *({C[kind]} *)(at + {n * SIZES[kind]});')
                for n, p in enumerate(parts):
                    put(p, kind, f't{n}')
            self.emit('}')
        elif name == 'cvta':
            if 'to' in mods and 'shared' in mods:
                put(o[0], kind, f'({get(o[1], kind)} - (uint64_t)e->shared)')
            elif 'shared' in mods:
                put(o[0], kind, f'({get(o[1], kind)} + (uint64_t)e->shared)')
            else:
                put(o[0], kind, get(o[1], kind))
        elif name == 'setp':
            compare = op[1]
            a, b = get(o[1], kind), get(o[2], kind)
            if compare in COMPARE:
                value = f'({a} {COMPARE[compare]} {b})'
                if compare == 'ne' and kind in ('f32', 'f64'):
                    value = f'({a} < {b} || {a} > {b})'
            elif compare.endswith('u') and compare[:-1] in COMPARE:
                value = f'({a} != {a} || {b} != {b} || {a} {COMPARE[compare[:-1]]} {b})'
            elif compare == 'num':
                value = f'({a} == {a} && {b} == {b})'
            elif compare == 'nan':
                value = f'({a} != {a} || {b} != {b})'
            else:
                raise Fault('comparison')
            if len(o) == 4:
                joint = next(j for j in ('and', 'or', 'xor') if j in op)
                value = f'({value} {dict([("and", "&"), ("or", "|"), ("xor", "^")])[joint]} {get(o[3], "pred")})'
            if '|' in o[0]:
                raise Fault('two predicates')
            put(o[0], 'pred', value)
        elif name == 'selp':
            put(o[0], kind, f'({get(o[3], "pred")} ? {get(o[1], kind)} : {get(o[2], kind)})')
        elif name == 'cvt':
            self.convert(op, o)
        elif name == 'activemask':
            self.waits = True
            put(o[0], 'b32', f'e->activemask(e, {self.pc})')
        elif name == 'shfl':
            self.waits = True
            dest, _, pred = o[0].partition('|')
            mode = {'up': 0, 'down': 1, 'bfly': 2, 'idx': 3}[op[2]]
            self.emit(f'{{ uint8_t in = 0; uint32_t got = e->shuffle(e, {self.pc}, {mode}, {get(o[1], "b32")}, {get(o[2], "b32")}, {get(o[3], "b32")}, {get(o[4], "b32")}, &in);')
            put(dest, 'b32', 'got')
            if pred:
                put(pred, 'pred', 'in')
            self.emit('}')
        elif name == 'vote':
            self.waits = True
            mode = {'all': 0, 'any': 1, 'uni': 2, 'ballot': 3}[op[2]]
            put(o[0], 'b32' if mode == 3 else 'pred', f'e->vote(e, {self.pc}, {mode}, {get(o[1], "pred")}, {get(o[2], "b32")})')
        elif name == 'mma':
            if text.split(' ')[0] != 'mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32':
                raise Fault('a form of mma')
            self.waits = True
            d, a, b, c = [operands(x[1:-1]) for x in o]
            self.emit(f'{{ uint32_t a[4] = {{{", ".join(get(x, "b32") for x in a)}}}, b[2] = {{{", ".join(get(x, "b32") for x in b)}}};')
            self.emit(f'float c[4] = {{{", ".join(get(x, "f32") for x in c)}}};')
            self.emit(f'e->mma(e, {self.pc}, a, b, c);')
            for n, x in enumerate(d):
                put(x, 'f32', f'c[{n}]')
            self.emit('}')
        elif name in ('atom', 'red'):
            place, value = (o[1], o[2]) if name == 'atom' else (o[0], o[1])
            space = next((s for s in op[1:] if s in ('global', 'shared')), 'generic')
            action = next(s for s in op[1:] if s in ('add', 'exch', 'cas', 'max', 'min', 'and', 'or', 'inc'))
            at = self.address(place, space)
            t = C[kind]
            self.emit(f'{{ {t} *at = ({t} *){at}; {t} with = {get(value, kind)}, was, now; do {{ __atomic_load(at, &was, 5);')
            now = {'add': 'was + with', 'exch': 'with', 'max': 'was > with ? was : with', 'min': 'was < with ? was : with',
                   'and': '(was & with)', 'or': '(was | with)'}
            if action == 'cas':
                other = get(o[3], kind)
                self.emit(f'now = was == with ? {other} : was;')
            else:
                self.emit(f'now = {now[action]};')
            self.emit('} while (!__atomic_compare_exchange(at, &was, &now, 0, 5, 5));')
            if name == 'atom':
                put(o[0], kind, 'was')
            self.emit('}')
        else:
            self.arithmetic(op, o)

    def convert(self, op, o):
        mods = op[1:-2]
        to, frm = op[-2], op[-1]
        if to in ('bf16x2', 'f16x2') and frm == 'f32':
            f = 'f2b' if to == 'bf16x2' else 'f2h'
            self.put(o[0], 'b32', f'((uint32_t){f}({self.get(o[1], "f32")}) << 16 | {f}({self.get(o[2], "f32")}))')
            return
        value = self.get(o[1], frm)
        half = {'bf16': 'b2f', 'f16': 'h2f'}
        if frm in half:
            value, frm = f'{half[frm]}({value})', 'f32'
        floats = ('f32', 'f64')
        if to in ('bf16', 'f16'):
            f = {'bf16': 'f2b', 'f16': 'f2h'}[to]
            if 'rn' not in mods and frm == 'f32':
                raise Fault('a rounding')
            self.put(o[0], 'b16', f'{f}((float){value})')
        elif to in floats and frm in floats:
            for mode, f in (('rni', 'nearbyintf'), ('rzi', 'truncf'), ('rmi', 'floorf'), ('rpi', 'ceilf')):
                if mode in mods:
                    value = f'{f}({value})'
            if 'sat' in mods:
                value = f'sat({value})'
            self.put(o[0], to, f'(({C[to]}){value})')
        elif frm in floats:
            f = next(f for mode, f in (('rni', 'nearbyint'), ('rzi', 'trunc'), ('rmi', 'floor'), ('rpi', 'ceil')) if mode in mods)
            self.put(o[0], to, f'{to}_of({f}({value}))')
        elif to in floats:
            self.put(o[0], to, f'(({C[to]}){value})')
        else:
            if 'sat' in mods:
                raise Fault('a saturated integer')
            self.put(o[0], to, f'(({C[to]}){value})')

    def arithmetic(self, op, o):
        name, kind = op[0], op[-1]
        mods = set(op[1:-1])
        get, put = self.get, self.put
        halves = {'bf16': ('b2f', 'f2b'), 'f16': ('h2f', 'f2h')}
        if kind in halves:
            to, back = halves[kind]
            x = [f'{to}({get(v, "b16")})' for v in o[1:]]
            put(o[0], 'b16', f'{back}({self.floats(name, mods, x)})')
            return
        if kind in ('bf16x2', 'f16x2'):
            to, back = halves[kind[:-2]]
            parts = []
            for shift in (16, 0):
                x = [f'{to}((uint16_t)({get(v, "b32")} >> {shift}))' for v in o[1:]]
                parts.append(f'((uint32_t){back}({self.floats(name, mods, x)}) << {shift})')
            put(o[0], 'b32', ' | '.join(parts))
            return
        if kind in ('f32', 'f64'):
            put(o[0], kind, self.floats(name, mods, [get(v, kind) for v in o[1:]], kind))
            return
        if kind == 'pred':
            x = [get(v, kind) for v in o[1:]]
            put(o[0], kind, {'and': '({0} & {1})', 'or': '({0} | {1})', 'xor': '({0} ^ {1})', 'not': '(!{0})'}[name].format(*x))
            return
        bits = SIZES[kind] * 8
        signed = kind.startswith('s')
        wide = {'u16': 'u32', 's16': 's32', 'u32': 'u64', 's32': 's64'}.get(kind)
        u = f'u{bits}'
        if name in ('add', 'sub'):
            put(o[0], u, f'({get(o[1], u)} {"+" if name == "add" else "-"} {get(o[2], u)})')
        elif name in ('mul', 'mad'):
            if 'wide' in mods:
                value = f'(({C[wide]}){get(o[1], kind)} * ({C[wide]}){get(o[2], kind)})'
                if name == 'mad':
                    value = f'({value} + {get(o[3], wide)})'
                put(o[0], wide, value)
                return
            if 'hi' in mods:
                big = '__int128' if bits == 64 else 'int64_t'
                big = big if signed else 'unsigned ' + big if bits == 64 else 'uint64_t'
                value = f'(({C[kind]})((({big}){get(o[1], kind)} * ({big}){get(o[2], kind)}) >> {bits}))'
            else:
                value = f'({get(o[1], u)} * {get(o[2], u)})'
            if name == 'mad':
                value = f'({value} + {get(o[3], u)})'
            put(o[0], u, value)
        elif name in ('div', 'rem'):
            a, b = get(o[1], kind), get(o[2], kind)
            put(o[0], kind, f'({b} == 0 ? ({C[kind]})-1 : {a} {"/" if name == "div" else "%"} {b})')
        elif name in ('min', 'max'):
            a, b = get(o[1], kind), get(o[2], kind)
            put(o[0], kind, f'({a} {"<" if name == "min" else ">"} {b} ? {a} : {b})')
        elif name in ('and', 'or', 'xor'):
            put(o[0], u, f'({get(o[1], u)} {dict([("and", "&"), ("or", "|"), ("xor", "^")])[name]} {get(o[2], u)})')
        elif name == 'not':
            put(o[0], u, f'(~{get(o[1], u)})')
        elif name == 'neg':
            put(o[0], u, f'(-{get(o[1], u)})')
        elif name == 'abs':
            put(o[0], kind, f'({get(o[1], kind)} < 0 ? -{get(o[1], kind)} : {get(o[1], kind)})')
        elif name == 'shl':
            put(o[0], u, f'({get(o[2], "u32")} >= {bits} ? 0 : {get(o[1], u)} << {get(o[2], "u32")})')
        elif name == 'shr':
            a, b = get(o[1], kind), get(o[2], 'u32')
            if signed:
                put(o[0], kind, f'({a} >> ({b} >= {bits} ? {bits - 1} : {b}))')
            else:
                put(o[0], u, f'({b} >= {bits} ? 0 : {a} >> {b})')
        elif name == 'shf':
            a, b, c = (get(v, 'u32') for v in o[1:4])
            amount = f'({c} & 31)' if 'wrap' in mods else f'({c} > 32 ? 32 : {c})'
            both = f'(((uint64_t){b} << 32) | {a})'
            put(o[0], 'u32', f'((uint32_t)(({both} << {amount}) >> 32))' if 'l' in mods else f'((uint32_t)({both} >> {amount}))')
        elif name == 'bfi':
            a, b, c, d = get(o[1], u), get(o[2], u), get(o[3], 'u32'), get(o[4], 'u32')
            put(o[0], u, f'bfi{bits}({a}, {b}, {c}, {d})')
        elif name == 'bfe':
            put(o[0], kind, f'bfe_{kind}({get(o[1], kind)}, {get(o[2], "u32")}, {get(o[3], "u32")})')
        elif name == 'prmt':
            if len(op) > 2:
                raise Fault('a mode')
            put(o[0], 'u32', f'prmt({get(o[1], "u32")}, {get(o[2], "u32")}, {get(o[3], "u32")})')
        elif name == 'popc':
            put(o[0], 'u32', f'(uint32_t)__builtin_popcountll({get(o[1], u)})')
        elif name == 'clz':
            put(o[0], 'u32', f'({get(o[1], u)} ? (uint32_t)__builtin_clzll({get(o[1], u)}) - {64 - bits} : {bits})')
        elif name == 'brev':
            put(o[0], u, f'brev{bits}({get(o[1], u)})')
        elif name == 'lop3':
            table = int(o[4], 0)
            a, b, c = (get(v, 'u32') for v in o[1:4])
            terms = [f'({"" if n & 4 else "~"}{a} & {"" if n & 2 else "~"}{b} & {"" if n & 1 else "~"}{c})'
                     for n in range(8) if table >> n & 1]
            put(o[0], 'u32', ' | '.join(terms) or '0')
        else:
            raise Fault('unknown')

    def floats(self, name, mods, x, kind='f32'):
        f = 'f' if kind == 'f32' else ''
        if 'rm' in mods or 'rp' in mods or 'rz' in mods:
            if name == 'fma' and 'rm' in mods and kind == 'f32':
                return f'fma_rm({x[0]}, {x[1]}, {x[2]})'
            raise Fault('a rounding')
        value = {
            'add': '({0} + {1})', 'sub': '({0} - {1})', 'mul': '({0} * {1})', 'div': '({0} / {1})',
            'fma': f'fma{f}({{0}}, {{1}}, {{2}})', 'mad': f'fma{f}({{0}}, {{1}}, {{2}})', 'neg': '(-{0})', 'abs': f'fabs{f}({{0}})',
            'min': f'fmin{f}({{0}}, {{1}})', 'max': f'fmax{f}({{0}}, {{1}})', 'sqrt': f'sqrt{f}({{0}})',
            'rcp': f'(({C[kind]})1 / {{0}})', 'rsqrt': f'(({C[kind]})1 / sqrt{f}({{0}}))', 'ex2': f'exp2{f}({{0}})', 'lg2': f'log2{f}({{0}})',
            'sin': f'sin{f}({{0}})', 'cos': f'cos{f}({{0}})', 'tanh': f'tanh{f}({{0}})',
        }[name].format(*x)
        if name in ('min', 'max') and 'NaN' in mods:
            value = f'({x[0]} != {x[0]} || {x[1]} != {x[1]} ? (float)NAN : {value})'
        if 'sat' in mods:
            value = f'sat({value})'
        return value

    def text(self):
        # Static shared memory lies before what a launch asks for.
        offsets, at = [], 0
        dynamic = []
        for name, (size, align) in self.shared.items():
            if not re.search(rf'\b{re.escape(name)}\b', self.source):
                continue
            if size is None:
                dynamic.append(name)
                continue
            at = (at + align - 1) // align * align
            offsets.append(f'enum {{ SH_{name} = {at} }};')
            at += size
        at = (at + 1023) // 1024 * 1024 if dynamic and at else at
        for name in dynamic:
            offsets.append(f'enum {{ SH_{name} = {at} }};')
        layout = ', '.join(f'{{{a}, {s}}}' for a, s in self.layout)
        return (f'static void run_{self.name}(struct Env *e) {{\n' + '\n'.join(offsets + self.lines) + '\n}\n'
                f'static const struct Field fields_{self.name}[] = {{{layout or "{0, 0}"}}};\n'
                f'const struct Kernel kernel_{self.name} = {{run_{self.name}, {int(self.waits)}, {at}, {len(self.layout)}, {self.param_bytes}, fields_{self.name}}};\n')


def module(text):
    text = re.sub(r'//[^\n]*', '', text)
    text = re.sub(r'/\*.*?\*/', '', text, flags=re.S)
    shared = {}
    for m in re.finditer(r'\.extern \.shared (?:\.align (\d+) )?\.(\w+) ([$\w]+)\[\]', text):
        shared[m.group(3)] = (None, int(m.group(1) or 16))
    for m in re.finditer(r'(?<!extern )\.shared (?:\.align (\d+) )?\.(\w+) ([$\w]+)(?:\[(\d+)\])?;', text):
        shared[m.group(3)] = (SIZES[m.group(2)] * int(m.group(4) or 1), int(m.group(1) or 16))
    out = ['#include "kernel.h"\n']
    for m in re.finditer(r'\.entry ([$\w]+)\((.*?)\)\s*((?:\.\w+ [^\n{]*\n)*)\s*\{', text, flags=re.S):
        depth, end = 1, m.end()
        while depth:
            c = text[end]
            depth += (c == '{') - (c == '}')
            end += 1
        params = [' '.join(p.split()) for p in m.group(2).split(',') if p.strip()]
        body = text[m.end():end - 1]
        kernel = Kernel(m.group(1), params, body, shared)
        kernel.source = body
        out.append(kernel.text())
    return ''.join(out)


if __name__ == '__main__':
    try:
        sys.stdout.write(module(open(sys.argv[1]).read()))
    except Fault as fault:
        sys.exit(f'{sys.argv[1]}: {fault}')
