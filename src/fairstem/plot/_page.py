"""The style sheet of report pages: small, light and dark, printable."""

STYLE = """
:root{--ground:#fff;--text:#1c2024;--soft:#5b6570;--line:#d9dee3;--panel:#f5f7f9;--link:#0b5cad;
--good:#0a6b47;--bad:#a83a00;--warn:#fff4e0;--warnline:#e69f00}
@media (prefers-color-scheme:dark){:root{--ground:#15191d;--text:#e6e9ec;--soft:#a3adb7;--line:#343c44;
--panel:#1e242a;--link:#7db9f2;--good:#5fd0a5;--bad:#ff9d66;--warn:#33290f;--warnline:#e69f00}}
*{box-sizing:border-box}
body{margin:0 auto;padding:1.5rem;max-width:76rem;background:var(--ground);color:var(--text);
font:1rem/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"Liberation Sans",sans-serif}
h1{font-size:1.7rem;line-height:1.2;margin:.2rem 0}
h2{font-size:1.25rem;margin:2rem 0 .8rem;padding-top:.8rem;border-top:1px solid var(--line)}
h3{font-size:1rem;margin:0 0 .3rem}
p{max-width:70ch;margin:.6rem 0}
a{color:var(--link)}
.subtitle,footer,figcaption,.note,nav span,caption{color:var(--soft)}
.note{font-size:.82rem;margin:.2rem 0 0;line-height:1.35}
nav ul{padding-left:1.1rem}
.numbers{display:grid;grid-template-columns:repeat(auto-fill,minmax(14.5rem,1fr));gap:.8rem;margin:1rem 0}
.number{background:var(--panel);border:1px solid var(--line);border-radius:.4rem;padding:.7rem .9rem}
.number dt{font-size:.85rem;color:var(--soft)}
.number dd{margin:0;font-size:1.3rem;font-variant-numeric:tabular-nums;line-height:1.3}
.number small,.err{font-size:.95rem;white-space:nowrap}
.warnings{background:var(--warn);border-left:4px solid var(--warnline);padding:.6rem 1rem;margin:1rem 0}
.warnings ul{margin:.3rem 0;padding-left:1.2rem}
.figures{display:grid;
grid-template-columns:repeat(auto-fit,minmax(min(27rem,100%),1fr));gap:1.2rem;margin:1rem 0}
figure{margin:0;break-inside:avoid}
figure.wide{grid-column:1/-1}
/* figures are drawn for white paper: keep that ground in the dark */
img{max-width:100%;height:auto;display:block;background:#fff;border:1px solid var(--line);border-radius:.3rem}
figcaption{font-size:.88rem;margin-top:.4rem}
.scroll{overflow-x:auto}
table{border-collapse:collapse;width:100%;font-size:.9rem;margin:1rem 0}
caption{text-align:left;font-size:.88rem;padding-bottom:.3rem}
th,td{text-align:left;vertical-align:top;padding:.4rem .6rem;border-bottom:1px solid var(--line)}
.num{font-variant-numeric:tabular-nums}
td.num,th.num{text-align:right;white-space:nowrap}
.checks td.num{text-align:left;white-space:normal}
.verdict{font-weight:600;white-space:nowrap}
.good{color:var(--good)}.bad{color:var(--bad)}.unknown{color:var(--soft)}
details{margin:1rem 0}
summary{cursor:pointer}
pre{background:var(--panel);border:1px solid var(--line);border-radius:.3rem;padding:.8rem;overflow:auto;
font-size:.8rem;max-height:30rem;white-space:pre-wrap;overflow-wrap:anywhere}
.cite{font-size:.9rem}
footer{margin-top:2rem;padding-top:.6rem;border-top:1px solid var(--line);font-size:.85rem}
@media print{body{max-width:none;padding:0;font-size:10pt;background:#fff;color:#000}pre{max-height:none}
h2,table,.number{break-inside:avoid}nav{display:none}}
"""
