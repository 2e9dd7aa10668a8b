#include "experiments/report/report_page.h"

namespace zerostep {

std::string_view report_style() {
  return R"(
:root{color-scheme:light}
*{box-sizing:border-box}
body{margin:0 auto;padding:16px 20px 40px;max-width:1180px;font:15px/1.45 Helvetica,Arial,"Liberation Sans","DejaVu Sans",sans-serif;color:#222;background:#fff}
h1{font-size:24px;margin:8px 0 4px}
h2{font-size:18px;margin:32px 0 8px;border-bottom:1px solid #ddd;padding-bottom:4px}
p{margin:6px 0}
.pale{color:#6e6e6e}
code{font:13px/1.4 Menlo,Consolas,"DejaVu Sans Mono",monospace;background:#f4f4f4;padding:1px 4px;border-radius:3px;overflow-wrap:anywhere}
dl{display:grid;grid-template-columns:max-content 1fr;gap:3px 14px;margin:8px 0;font-size:13px}
dt{grid-column:1;color:#6e6e6e}
dd{grid-column:2;margin:0;overflow-wrap:anywhere}
.scroll{overflow-x:auto}
table{border-collapse:collapse;font-size:13px;font-variant-numeric:tabular-nums;min-width:50%}
th,td{padding:4px 10px;text-align:right;border-bottom:1px solid #e8e8e8;white-space:nowrap}
th:first-child,td:first-child{text-align:left;position:sticky;left:0;background:#fff;white-space:normal;overflow-wrap:break-word;max-width:40vw}
td.text,th.text{text-align:left}
td.wrap{white-space:normal;overflow-wrap:anywhere;min-width:18em;text-align:left}
thead th{border-bottom:2px solid #999;color:#444}
table.sortable th{cursor:pointer;user-select:none}
th[aria-sort=ascending]::after{content:" \25B2";font-size:9px}
th[aria-sort=descending]::after{content:" \25BC";font-size:9px}
tbody tr:hover td{background:#f3f8fc}
.state{display:inline-block;padding:0 7px;border-radius:9px;font-size:12px;background:#eee}
.state{white-space:nowrap}.done{background:#d9f0e6}.failed,.killed{background:#f8dcd0}.running{background:#d8e9f6}.interrupted{background:#fbeccb}
figure{margin:14px 0 26px}
figure svg{display:block;width:100%;height:auto}
figure .narrow{display:none}
#tip{position:fixed;z-index:9;pointer-events:none;display:none;max-width:340px;background:rgba(255,255,255,.96);border:1px solid #bbb;border-radius:4px;padding:5px 9px;font-size:12px;line-height:1.4;box-shadow:0 2px 8px rgba(0,0,0,.15)}
#tip i{display:inline-block;width:9px;height:9px;margin-right:6px;border-radius:2px}
#tip b{font-weight:bold}
@media (max-width:640px){body{padding:10px 10px 30px}h1{font-size:20px}figure{margin:10px -6px 22px}figure .wide{display:none}figure .narrow{display:block}th,td{padding:5px 7px}th:first-child,td:first-child{position:static;max-width:60vw}td.wrap{min-width:12em}}
@media print{body{max-width:none;padding:0;font-size:11pt}#tip{display:none!important}figure,tr{break-inside:avoid}h2{break-after:avoid}figure .wide{display:block}figure .narrow{display:none}.scroll{overflow:visible}table{font-size:8pt}th,td{padding:2px 5px;white-space:normal}th:first-child,td:first-child{position:static}}
)";
}

// Sorts tables by a click on a head, and shows the values nearest to the pointer over a picture: polylines have them as points, which the
// panel's data-box, data-x and data-y turn back into values.
std::string_view report_script() {
  return R"(
(function(){
'use strict';
document.querySelectorAll('table.sortable').forEach(function(table){
  var body=table.tBodies[0],heads=table.tHead.rows[0].cells;
  Array.prototype.forEach.call(heads,function(head,column){
    head.tabIndex=0;
    function sort(){
      var up=head.getAttribute('aria-sort')!=='ascending';
      Array.prototype.forEach.call(heads,function(h){h.removeAttribute('aria-sort');});
      head.setAttribute('aria-sort',up?'ascending':'descending');
      var key=function(row){var c=row.cells[column],v=c.getAttribute('data-v');return v===null?c.textContent:v;};
      Array.prototype.slice.call(body.rows).sort(function(a,b){
        var x=key(a),y=key(b),n=parseFloat(x),m=parseFloat(y),both=!isNaN(n)&&!isNaN(m);
        if(x===''||y==='')return x===y?0:x===''?1:-1;
        var order=both?n-m:x.localeCompare(y,undefined,{numeric:true});
        return up?order:-order;
      }).forEach(function(row){body.appendChild(row);});
    }
    head.addEventListener('click',sort);
    head.addEventListener('keydown',function(e){if(e.key==='Enter'||e.key===' '){e.preventDefault();sort();}});
  });
});
function scale(text){var p=text.split(',');return{low:+p[0],high:+p[1],log:p[2]==='log',unit:p[3]};}
function value(s,share){return s.log?Math.exp((1-share)*Math.log(s.low)+share*Math.log(s.high)):(1-share)*s.low+share*s.high;}
function show(v,unit){
  if(unit==='bytes'){var n=['B','KiB','MiB','GiB','TiB'],i=0;while(v>=1024&&i<4){v/=1024;i++;}return v.toPrecision(i?4:Math.max(1,String(Math.round(v)).length))+' '+n[i];}
  if(unit==='seconds'){return v<180?v.toPrecision(4)+' s':v<10800?(v/60).toPrecision(4)+' min':(v/3600).toPrecision(4)+' h';}
  var a=Math.abs(v);
  return a>=1e5||(a>0&&a<1e-4)?v.toExponential(3):a>=1000?String(Math.round(v*10)/10):String(+v.toPrecision(4));
}
var tip=document.createElement('div');tip.id='tip';document.body.appendChild(tip);
function escaped(t){var d=document.createElement('span');d.textContent=t;return d.innerHTML;}
function points(e){
  if(!e.zs){
    if(e.tagName==='g')e.zs=Array.prototype.map.call(e.querySelectorAll('circle'),function(c){return[+c.getAttribute('cx'),+c.getAttribute('cy')];});
    else e.zs=(e.getAttribute('points')||'').trim().split(' ').map(function(t){var p=t.split(',');return[+p[0],+p[1]];});
  }
  return e.zs;
}
function nearest(list,x){
  var a=0,b=list.length-1;
  while(b-a>1){var m=(a+b)>>1;if(list[m][0]<=x)a=m;else b=m;}
  return Math.abs(list[a][0]-x)<=Math.abs(list[b][0]-x)?a:b;
}
function hover(svg,event){
  var matrix=svg.getScreenCTM();if(!matrix)return;
  var at=new DOMPoint(event.clientX,event.clientY).matrixTransform(matrix.inverse()),found=null;
  svg.querySelectorAll('.panel').forEach(function(g){
    var b=g.getAttribute('data-box').split(',').map(Number);
    if(at.x>=b[0]&&at.x<=b[0]+b[2]&&at.y>=b[1]&&at.y<=b[1]+b[3])found={g:g,b:b};
  });
  if(!found){tip.style.display='none';return;}
  var b=found.b,g=found.g,sx=scale(g.getAttribute('data-x')),sy=scale(g.getAttribute('data-y')),rows=[],place=null;
  var named=g.getAttribute('data-yname');
  g.querySelectorAll('[data-name]').forEach(function(e){
    var p=points(e),i,name=e.getAttribute('data-name'),ink=e.getAttribute('stroke')||e.getAttribute('fill');
    if(!p.length)return;
    if(e.tagName==='polygon'){
      if(at.x>=p[0][0]-1&&at.x<=p[1][0]+1&&at.y>=p[0][1]&&at.y<=p[2][1])rows.push({d:-1,html:'<i style="background:'+ink+'"></i>'+escaped(name)});
      return;
    }
    if(e.tagName==='g'||!named){
      i=0;p.forEach(function(q,k){if(Math.hypot(q[0]-at.x,q[1]-at.y)<Math.hypot(p[i][0]-at.x,p[i][1]-at.y))i=k;});
      if(Math.hypot(p[i][0]-at.x,p[i][1]-at.y)>(named?14:9))return;
    }else{i=nearest(p,at.x);if(Math.abs(p[i][0]-at.x)>12)return;}
    var q=p[i],x=value(sx,(q[0]-b[0])/b[2]),y=value(sy,(b[1]+b[3]-q[1])/b[3]),d=Math.abs(q[1]-at.y);
    if(place===null||d<place.d)place={d:d,x:x};
    rows.push({d:d,html:'<i style="background:'+ink+'"></i>'+escaped(name)+' <b>'+(named?show(y,sy.unit):show(x,sx.unit))+'</b>'});
  });
  if(!rows.length){tip.style.display='none';return;}
  rows.sort(function(a,b){return a.d-b.d;});
  var more=rows.length-10;
  tip.innerHTML=(place&&named?'<span class="pale">'+escaped(g.getAttribute('data-xname'))+' '+show(place.x,sx.unit)+'</span><br>':'')+
    rows.slice(0,10).map(function(r){return r.html;}).join('<br>')+(more>0?'<br><span class="pale">and '+more+' more</span>':'');
  tip.style.display='block';
  var w=tip.offsetWidth,h=tip.offsetHeight,left=event.clientX+14,top=event.clientY+14;
  if(left+w>innerWidth-4)left=Math.max(4,event.clientX-w-14);
  if(top+h>innerHeight-4)top=Math.max(4,event.clientY-h-14);
  tip.style.left=left+'px';tip.style.top=top+'px';
}
document.querySelectorAll('figure>div>svg').forEach(function(svg){
  svg.addEventListener('pointermove',function(e){hover(svg,e);});
  svg.addEventListener('pointerdown',function(e){hover(svg,e);});
  svg.addEventListener('pointerleave',function(){tip.style.display='none';});
});
})();
)";
}

}  // namespace zerostep
