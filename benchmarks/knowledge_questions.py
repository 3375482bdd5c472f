"""Questions with and without an answer in Debian's manuals, for the gate that decides whether to look."""

from __future__ import annotations

from typing import Final

IN_DOMAIN: Final = tuple(
    """
如何用 apt 安装一个软件包
怎么升级整个 Debian 系统到新的发行版
怎样配置静态 IP 地址
如何设置 SSH 免密码登录
软件 RAID 怎么建立
LVM 逻辑卷如何扩容
怎么给磁盘分区加密
iptables 防火墙规则怎么写
如何新建用户并加入 sudo 组
cron 定时任务的格式是什么
怎么查看系统日志
内核模块如何加载
怎样编译自己的内核
如何修改文件权限和所有者
find 命令怎么按修改时间查找文件
tar 怎么解压缩归档文件
如何用 dpkg 查看已安装软件包的文件列表
DNS 服务器怎么配置
怎么用 Samba 共享目录给 Windows
NFS 文件系统怎么挂载
Apache 虚拟主机的配置
PostgreSQL 数据库怎么安装
如何制作 Debian 软件包
systemd 服务怎么开机启动
怎么设置中文语言环境 locale
grub 引导加载程序坏了怎么修复
如何备份系统
rsync 增量备份怎么做
怎么限制用户的磁盘配额
如何用 gpg 验证签名
交换分区多大合适
chmod 的数字模式是什么含义
grep 如何使用正则表达式
怎样终止一个进程
Postfix 邮件服务器的设置
虚拟化 KVM 怎么用
LXC 容器怎么创建
如何挂载 USB 存储设备
vim 编辑器怎么替换文本
怎么查看网络连接和端口
crontab 环境变量
/etc/fstab 文件的字段
pam 认证模块的配置
init 运行级别
什么是 backports 软件源
AppArmor 安全策略
ls 命令如何按大小排序
bash 的重定向语法
git 版本控制的基本用法
how do I pin a package version with apt preferences
what is the difference between apt and aptitude
how to configure a VPN with OpenVPN
how to set up a DHCP server
how can I rescue a system with a broken boot loader
which file system should I choose for the root partition
how to use debconf preseeding for automated installation
how to monitor a server with Munin or Nagios
how to configure the display manager
what are stable testing and unstable
how do I install non-free firmware
""".strip().splitlines()
)

CHIT_CHAT: Final = tuple(
    """
你好呀
你叫什么名字
给我讲个笑话
今天心情不太好
你喜欢吃火锅吗
周末去哪里玩比较好
帮我写一首关于春天的诗
我失恋了怎么办
你会唱歌吗
今天天气怎么样
明天会下雨吗
推荐几部好看的电影
周杰伦最新的专辑叫什么
红烧肉怎么做才好吃
减肥有什么好方法
孩子不爱吃饭怎么办
晚上失眠怎么调理
帮我翻译一下我爱你
北京有什么好玩的景点
世界杯冠军是谁
苹果手机和华为手机哪个好
股票今天涨了吗
怎么追女孩子
你觉得人生的意义是什么
祝我生日快乐
给女朋友买什么礼物
谢谢你的帮助
再见
哈哈哈太好笑了
五一假期怎么放
唐朝有多少位皇帝
李白写过哪些诗
猫咪掉毛严重怎么处理
早餐吃什么健康
今年流行什么颜色的衣服
高考志愿怎么填
坐高铁能带宠物吗
什么星座和狮子座最配
帮我起一个好听的英文名
讲一个睡前故事
咖啡喝多了会怎样
怎么养绿萝
房贷利率现在是多少
感冒了吃什么药
我想学钢琴
中国的首都是哪里
太阳为什么是圆的
你是机器人吗
我好无聊啊
陪我聊聊天吧
hello there
how are you today
tell me a joke
what should I cook for dinner tonight
who won the basketball game last night
I feel lonely
do you like music
write a poem about the sea
what is the capital of Australia
recommend a good novel
""".strip().splitlines()
)
